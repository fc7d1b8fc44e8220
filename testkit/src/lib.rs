//! What the integration tests stand on: a host with the shop's components on free ports, a collector that records
//! what arrives by OTLP, and span trees to compare with what a test expects.
//!
//! Nothing here sleeps to let things happen: whoever waits polls with a deadline and says what was missing.

mod admin;
pub mod artifacts;
pub mod browser;
mod client;
pub mod collector;
pub mod diff;
pub mod jaeger;
pub mod origin;
pub mod poll;
pub mod process;
pub mod raw;
mod reference;
mod shop;
mod site;
mod span;
mod trace_id;
mod tree;
mod variant;

pub use admin::Admin;
pub use client::{Answer, Client, Request};
pub use collector::{Behaviour, Collector};
pub use process::Spandrel;
pub use reference::Reference;
pub use shop::{ODDITIES_PORT, SERVICES, STANDARD, Shop, ShopBuilder};
pub use site::Site;
pub use span::{Event, Kind, Outcome, Span};
pub use trace_id::TraceId;
pub use tree::SpanTree;
pub use variant::{padded, reworded, variant, with_section};

/// The longest that any test waits for something that should happen at once.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

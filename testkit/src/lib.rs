//! Support for integration tests: a host with the shop's components on free ports, a collector that records what it
//! receives by OTLP, and span trees to compare with expected ones.
//!
//! Nothing here sleeps for a fixed time: waiting functions poll with a deadline and report what was missing.

mod admin;
pub mod artifacts;
pub mod browser;
mod client;
pub mod collector;
pub mod diff;
mod host_permit;
pub mod jaeger;
pub mod origin;
pub mod poll;
mod port;
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
pub use variant::{laborious, padded, reversioned, reworded, variant, with_section, without_slot};

/// The longest time that a test waits for something that should happen immediately, on a machine that does much else:
/// compiling a component alone can take a third of it.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

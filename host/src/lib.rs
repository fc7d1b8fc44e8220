//! Spandrel serves WebAssembly components as HTTP services and traces every request through them.
//!
//! `ARCHITECTURE.md` describes each module and the path of a request through them.

mod batching;
mod boxed;
pub mod cli;
pub mod component;
pub mod config;
mod console;
pub mod control;
pub mod host;
mod hostfn;
pub mod http;
pub mod metrics;
pub mod outbound;
mod printable;
pub mod serve;
pub mod services;
pub mod state;
pub mod telemetry;
pub mod trace;
mod woken;

pub use crate::config::Config;
pub use crate::host::{Host, StartError, check};

//! Spandrel serves WebAssembly components as HTTP services and traces every request through them.
//!
//! The modules stand here in the order in which a request meets them; `ARCHITECTURE.md` says what each is for.

pub mod assembly;
pub mod catalog;
pub mod cli;
pub mod component;
pub mod config;
mod console;
pub mod dispatch;
pub mod error;
mod figures;
pub mod host;
mod hostfn;
pub mod listener;
pub mod metadata;
pub mod metrics;
pub mod outbound;
pub mod redaction;
pub mod routes;
pub mod semconv;
pub mod state;
pub mod swap;
pub mod tally;
pub mod trace;
mod watch;

pub use crate::config::Config;
pub use crate::host::{Host, StartError, check};

//! Everything that changes which services and versions serve: start, changed manifest or component file, swaps,
//! rollbacks and canaries.
//!
//! `Control` is the only handle: the console, the watcher and the signal handlers use nothing else.

mod drains;
mod error;
mod handle;
pub mod manifest;
pub mod metric_export;
mod observe;
mod ports;
mod readiness;
mod refused;
mod stamp;
pub mod swap;
mod swapping;
pub mod watch;
mod whole;

pub use self::error::StartError;
pub(crate) use self::handle::Control;
pub(crate) use self::readiness::Readiness;

//! Everything that changes which services and versions serve: start, changed manifest or component file, swaps,
//! rollbacks and canaries.
//!
//! `Control` is the only handle: the console, the watcher and the signal handlers use nothing else.

mod completeness;
mod component_file;
mod dependencies;
mod drains;
mod error;
mod file_stamp;
mod handle;
pub mod manifest;
pub mod metric_export;
mod observe;
mod ports;
mod readiness;
mod rejected_manifest;
mod start;
pub mod swap;
mod swapping;
pub mod watch;

pub use self::error::StartError;
pub(crate) use self::handle::Control;
pub(crate) use self::readiness::Readiness;
pub(crate) use self::start::PendingServices;

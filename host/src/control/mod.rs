//! Whatever changes what serves: start of a service, a changed manifest or component file, swaps, rollbacks and canaries.
//!
//! [`Control`] is the one handle; the console and the watcher use nothing else.

mod error;
mod handle;
pub mod manifest;
pub mod metric_export;
mod observe;
pub mod swap;
pub mod watch;

pub use self::error::StartError;
pub(crate) use self::handle::Control;

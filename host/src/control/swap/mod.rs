//! Replaces a component with a new version while the old one serves.
//!
//! Compile, verify, probe, publish, drain: every step that can fail comes before the one atomic store that publishes,
//! and a failure leaves the serving version unchanged. One swap of a service runs at a time; a newer one cancels an
//! older one that has not published yet. The last generations are kept for rollbacks, compiled but without instances.

mod differences;
mod error;
mod guard;
mod history;
mod outcome;
mod probe;
mod progress;
mod report;
mod swap_state;
mod swapper;

pub use self::error::SwapError;
pub use self::history::SwapRecord;
pub use self::outcome::{ComponentSource, SwapOptions, Swapped, parse_share};
pub use self::report::{CanaryReport, ServiceReport, ServiceState, VersionFigures};
pub use self::swapper::Swapper;

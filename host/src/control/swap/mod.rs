//! A new version of a component while the old one serves.
//!
//! Compile, verify, probe, publish, drain: everything that can go wrong goes wrong before the one store that publishes,
//! and leaves the version that serves as it is. One swap of a service runs at a time; a newer one cancels an older one
//! that has not published yet. The last generations are kept, compiled but without instances, for going back to.

mod component_file;
mod differences;
mod error;
mod guard;
mod history;
mod outcome;
mod probe;
mod progress;
mod report;
mod slot;
mod swapper;

pub use self::error::SwapError;
pub use self::history::SwapRecord;
pub use self::outcome::{ComponentSource, SwapOptions, Swapped, parse_share};
pub use self::report::{CanaryReport, ServiceReport, ServiceState, VersionFigures};
pub use self::swapper::Swapper;

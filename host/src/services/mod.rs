//! The services of the host and their immutable generations.

mod builder;
mod catalog;
mod compiling;
mod durations;
mod generation;
mod request_stats;
mod service;
mod suggestion;

pub use self::builder::{BuildError, GenerationBuilder};
pub use self::catalog::Catalog;
pub use self::generation::{Generation, Lease};
pub use self::request_stats::{Outcome, RequestStats, StatsSnapshot};
pub use self::service::{BufferedBytes, Canary, Permit, Service, Serving};

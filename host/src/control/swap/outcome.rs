//! What is asked of a swap, and what came of it.

use std::time::Duration;

use crate::config::ServiceConfig;
use crate::services::Generation;

/// What a swap should do besides replacing the version.
#[derive(Clone, Debug, Default)]
pub struct SwapOptions {
    /// Publish although routes are gone.
    pub allow_dropped_routes: bool,
    /// Serve only this many of 10,000 traces with the candidate.
    pub canary: Option<u32>,
    /// The configuration of the new generation, where it is not the old one's.
    pub config: Option<ServiceConfig>,
}

/// A swap that happened.
#[derive(Clone, Debug)]
pub struct Swapped {
    /// The generation that serves now.
    pub generation: u64,
    /// The digest of its component.
    pub digest: String,
    /// Whether anything changed: the same component under the same configuration is left as it is.
    pub changed: bool,
    /// How long each step took, in the order in which they were done.
    pub timings: Vec<(&'static str, Duration)>,
}

impl Swapped {
    /// A swap after which `generation` serves. `changed` is false where it served before.
    pub(super) fn new(generation: &Generation, changed: bool, timings: Vec<(&'static str, Duration)>) -> Swapped {
        Swapped { generation: generation.number, digest: generation.digest().as_str().to_owned(), changed, timings }
    }
}

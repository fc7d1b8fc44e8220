//! The number of instances of a pool and their memory, updated by the instances themselves.

use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Counts the instances of one pool, including those that serve a request. Each instance updates the counts itself.
#[derive(Debug, Default)]
pub struct InstanceCounts {
    pub live: AtomicUsize,
    pub memory: AtomicU64,
    pub memory_high_water: AtomicU64,
}

//! How many instances a pool has and what memory they hold, kept true by each instance itself.

use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Counts the instances of one pool, those that are out included. Each instance keeps it true by itself.
#[derive(Debug, Default)]
pub struct InstanceCounts {
    pub live: AtomicUsize,
    pub memory: AtomicU64,
    pub memory_high_water: AtomicU64,
}

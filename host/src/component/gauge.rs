//! How many instances a pool has and what memory they hold, kept true by each instance itself.

use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Figures about a pool, read by metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Instances that exist, busy ones included.
    pub live: usize,
    /// Instances that wait for a request.
    pub idle: usize,
    /// The linear memory of all instances, in bytes.
    pub memory: u64,
    /// The most linear memory that one instance ever had, in bytes.
    pub memory_high_water: u64,
}

/// Counts the instances of one pool, those that are out included. Each instance keeps it true by itself.
#[derive(Debug, Default)]
pub struct Gauge {
    pub live: AtomicUsize,
    pub memory: AtomicU64,
    pub memory_high_water: AtomicU64,
}

//! Buckets, the results of operations on them, and the limits of their parts.

use std::sync::Arc;

/// The longest key in bytes.
pub const MAX_KEY: usize = 1024;
/// The largest value in bytes.
pub const MAX_VALUE: usize = 4 * 1024 * 1024;
/// The longest bucket name in bytes.
pub const MAX_BUCKET: usize = 256;
/// The number of keys in one page of a listing.
pub const PAGE_SIZE: usize = 1000;

/// The bytes that count towards the quota for each pair in addition to names and value, and in memory for each bucket
/// in addition to its name.
pub(super) const PAIR_OVERHEAD: usize = 128;

/// The outcome of a compare-and-swap.
#[derive(Debug, PartialEq, Eq)]
pub enum CasOutcome {
    /// The value was stored.
    Stored,
    /// The key had another value than expected, which is this one.
    Conflict(Option<Vec<u8>>),
}

/// A bucket of one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId {
    /// The service that owns it.
    pub service: Arc<str>,
    /// The identifier that the component opened.
    pub bucket: Arc<str>,
}

/// A page of a bucket's keys.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys, in byte order.
    pub keys: Vec<String>,
    /// The last key of this page, if another page follows.
    pub cursor: Option<String>,
}

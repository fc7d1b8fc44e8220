//! Buckets, what is asked of them, and how large their parts may be.

use std::sync::Arc;

/// The longest key that is stored, in bytes.
pub const MAX_KEY: usize = 1024;
/// The largest value that is stored, in bytes.
pub const MAX_VALUE: usize = 4 * 1024 * 1024;
/// The longest name of a bucket, in bytes.
pub const MAX_BUCKET: usize = 256;
/// How many keys one page of a listing holds.
pub const PAGE: usize = 1000;

/// What is put down for a pair besides its names and its value, and in memory for a bucket besides its name.
pub(super) const OVERHEAD: usize = 128;

/// How a compare-and-swap ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Swap {
    /// The value was stored.
    Stored,
    /// The key no longer held what was expected; this is what it holds.
    Lost(Option<Vec<u8>>),
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
    /// The last key of this page where another page follows.
    pub cursor: Option<String>,
}

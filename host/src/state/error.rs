//! Why an operation on the store failed.

use std::path::PathBuf;

use thiserror::Error;

/// Why an operation on the store failed.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file could not be opened at start.
    #[error(
        "the state file {path} cannot be opened: {reason}. Stop the other host that uses it, or set another `path` under [state]"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The database failed while it was in use, for example for want of disk space.
    #[error("the state store failed: {0}")]
    Backend(String),
    /// A key or a value over its limit.
    #[error("{what} of {size} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// "a key", "a value" or "a bucket's name".
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most that is stored.
        limit: usize,
    },
    /// The service keeps as much as it may. The limit in bytes.
    #[error("the service keeps more than {0} bytes already")]
    Full(usize),
    /// `increment` met a value that is no number, or the sum does not fit 64 bits.
    #[error("the value at `{0}` is no 64-bit number that the increment fits")]
    NotANumber(String),
}

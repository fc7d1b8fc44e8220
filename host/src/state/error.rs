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
        /// The error of the database.
        reason: String,
    },
    /// The database failed while it was in use, for example because the disk is full.
    #[error("the state store failed: {0}")]
    Backend(String),
    /// A key, value or bucket name exceeds its limit.
    #[error("{what} of {size} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// "a key", "a value" or "a bucket's name".
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The change would exceed the service's quota, given in bytes.
    #[error("the service's data would exceed its limit of {0} bytes")]
    QuotaExceeded(usize),
    /// `increment` found a value that is not a number, or the sum does not fit 64 bits.
    #[error("the value at `{0}` is not a 64-bit number, or the sum does not fit 64 bits")]
    NotANumber(String),
}

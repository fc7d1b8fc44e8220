//! Why a data point of a guest's own SDK is rejected.

use thiserror::Error;

use super::guest_limits::MAX_BUCKETS;

/// Why a data point is rejected.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PointError {
    /// Added to a series, it would make the sum of the series NaN or infinite.
    #[error("the sum is not a finite number")]
    NotFinite,
    /// A monotonic sum starts at zero and does not decrease.
    #[error("a monotonic sum is negative")]
    NegativeMonotonicSum,
    /// The bounds of a histogram do not divide the numbers into buckets.
    #[error("the bounds are not finite numbers, each greater than the one before")]
    Bounds,
    /// The width of the zero bucket of an exponential histogram is not one.
    #[error("the zero threshold is not a finite number of at least 0")]
    ZeroThreshold,
    /// A histogram has one bucket more than bounds.
    #[error("the number of buckets is not that of the bounds plus one")]
    BucketCount,
    /// A histogram has too many buckets.
    #[error("there are more than {MAX_BUCKETS} buckets")]
    TooManyBuckets,
    /// Each measurement is in one bucket.
    #[error("the counts of the buckets do not add up to the count")]
    Count,
}

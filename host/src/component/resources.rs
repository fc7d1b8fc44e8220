//! The host resources behind the handles of guests.

use std::sync::Arc;

use super::account::MemoryReservation;
use crate::state::BucketId;

/// A span of a lean guest. The handle contains the reference; the span itself is in the request's recorder.
pub struct GuestSpan;

/// A counter of a lean guest. The handle contains the reference; the counter itself is in the service's metrics.
pub struct GuestCounter;

/// A histogram of a lean guest, referenced like a counter.
pub struct GuestHistogram;

/// An open bucket of `wasi:keyvalue`.
pub struct Bucket {
    pub(crate) id: Arc<BucketId>,
    /// Where the last page of a listing through the earlier draft ended.
    pub(crate) list_position: Option<ListPosition>,
    /// The host memory reserved for the bucket.
    pub(crate) _reservation: MemoryReservation,
}

/// The position in a listing: the number of keys listed so far, and the last of them.
#[derive(Default)]
pub struct ListPosition {
    pub(crate) count: u64,
    pub(crate) key: Option<String>,
}

/// A key and the value that the guest read from it: the state of a compare-and-swap.
pub struct CasSnapshot {
    pub(crate) bucket: Arc<BucketId>,
    pub(crate) key: String,
    pub(crate) observed: Option<Vec<u8>>,
    /// The host memory reserved for the snapshot.
    pub(crate) _reservation: MemoryReservation,
}

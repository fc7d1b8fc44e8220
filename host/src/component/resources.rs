//! What the handles that guests hold stand for.

use std::sync::Arc;

use super::account::MemoryReservation;
use crate::state::BucketId;

/// A span of a lean guest. Only its handle exists; the span itself is in the request's recorder.
pub struct GuestSpan;

/// A counter of a lean guest. Only its handle exists; the counter itself is among the service's metrics.
pub struct GuestCounter;

/// A histogram of a lean guest, as a counter is.
pub struct GuestHistogram;

/// An open bucket of `wasi:keyvalue`.
pub struct Bucket {
    pub(crate) id: Arc<BucketId>,
    /// Where the last page of a listing by the earlier draft ended.
    pub(crate) listed: Option<ListPosition>,
    /// Gives back what the account holds for it.
    pub(crate) _reservation: MemoryReservation,
}

/// How far a listing has come: so many keys, up to this one.
#[derive(Default)]
pub struct ListPosition {
    pub(crate) count: u64,
    pub(crate) key: Option<String>,
}

/// A key of a bucket and what it held when the guest looked: the state of a compare-and-swap.
pub struct CasSnapshot {
    pub(crate) bucket: Arc<BucketId>,
    pub(crate) key: String,
    pub(crate) seen: Option<Vec<u8>>,
    /// Gives back what the account holds for it.
    pub(crate) _reservation: MemoryReservation,
}

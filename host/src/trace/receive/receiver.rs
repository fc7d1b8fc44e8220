//! What takes the spans of a request, whichever way it came.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::sync::Semaphore;

use super::decode;
use crate::trace::store::{StoredPart, TraceStore};

/// The most bytes of a request, as it is sent and as it is unpacked.
pub(super) const REQUEST: usize = 8 << 20;
/// Requests that are received and decoded at the same time.
pub(super) const REQUESTS: usize = 4;

/// Everything that takes spans.
#[derive(Clone)]
pub(super) struct Receiver {
    store: Arc<TraceStore>,
    pub turns: Arc<Semaphore>,
}

/// What became of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Spans that could not be kept.
    pub rejected: usize,
}

impl Receiver {
    /// A receiver for `store`.
    pub fn new(store: Arc<TraceStore>) -> Receiver {
        Receiver { store, turns: Arc::new(Semaphore::new(REQUESTS)) }
    }

    /// Hands the spans of a request to the store.
    pub fn take(&self, request: ExportTraceServiceRequest) -> Taken {
        let (groups, rejected) = decode::groups(request);
        groups.into_iter().for_each(|group| self.store.add(StoredPart::Received(Arc::new(group))));
        Taken { rejected }
    }
}

impl Taken {
    /// What is said of spans that could not be kept.
    pub fn message(&self) -> String {
        match self.rejected {
            0 => String::new(),
            rejected => format!("{rejected} spans have no valid trace id or span id"),
        }
    }
}

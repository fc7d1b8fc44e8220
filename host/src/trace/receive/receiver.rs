//! Adds the spans of a request to the store, for both protocols.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::sync::Semaphore;

use super::decode;
use crate::trace::store::{StoredPart, TraceStore};

/// The most bytes of a request, before and after decompression.
pub(super) const MAX_REQUEST_BYTES: usize = 8 << 20;
/// The most requests that are received and decoded at the same time.
pub(super) const MAX_CONCURRENT_REQUESTS: usize = 4;

/// The state shared by all handlers.
#[derive(Clone)]
pub(super) struct Receiver {
    store: Arc<TraceStore>,
    pub permits: Arc<Semaphore>,
}

/// The result of receiving a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReceiveOutcome {
    /// The number of rejected spans.
    pub rejected: usize,
}

impl Receiver {
    /// A receiver for `store`.
    pub fn new(store: Arc<TraceStore>) -> Receiver {
        Receiver { store, permits: Arc::new(Semaphore::new(MAX_CONCURRENT_REQUESTS)) }
    }

    /// Adds the spans of a request to the store.
    pub fn store_spans(&self, request: ExportTraceServiceRequest) -> ReceiveOutcome {
        let (groups, rejected) = decode::groups(request);
        groups.into_iter().for_each(|group| self.store.add(StoredPart::Received(Arc::new(group))));
        ReceiveOutcome { rejected }
    }
}

impl ReceiveOutcome {
    /// The error message for rejected spans.
    pub fn message(&self) -> String {
        match self.rejected {
            0 => String::new(),
            rejected => format!("{rejected} spans have no valid trace id or span id"),
        }
    }
}

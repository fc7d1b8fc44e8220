//! A recorder with several owners: the exchange that answers a request, the guest that may continue after the response,
//! and its calls in progress.
//!
//! The spans are handed to the pipeline when the last owner is gone, so that no record is lost. The exchange reports
//! how the request ended; a recorder that is dropped before that ends its spans as cancelled.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::recorder::Recorder;

/// Why the spans that a guest left open end as errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// The value of `error.type`.
    pub kind: &'static str,
    /// The status message.
    pub message: String,
}

/// One owner's handle to a request's recorder.
#[derive(Clone)]
pub struct SharedRecorder(Arc<RecorderState>);

struct RecorderState {
    recorder: Mutex<Recorder>,
    /// Set when the exchange has ended, with the reason if the request was aborted.
    ended: OnceLock<Option<Abort>>,
}

impl SharedRecorder {
    /// Shares a recorder.
    pub fn new(recorder: Recorder) -> SharedRecorder {
        SharedRecorder(Arc::new(RecorderState { recorder: Mutex::new(recorder), ended: OnceLock::new() }))
    }

    /// Calls `record` with the recorder. Other owners wait until it returns.
    pub fn with<T>(&self, record: impl FnOnce(&mut Recorder) -> T) -> T {
        record(&mut self.0.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the server span at `at` and sets how the request ended. Records that other owners add later are kept too.
    pub fn end(&self, at: Instant, abort: Option<Abort>) {
        self.with(|recorder| recorder.end_at(recorder.server(), at));
        // Only the first call sets the reason.
        let _ = self.0.ended.set(abort);
    }
}

impl Drop for RecorderState {
    fn drop(&mut self) {
        let Some(abort) = self.ended.take() else { return };
        let recorder = self.recorder.get_mut().unwrap_or_else(PoisonError::into_inner);
        recorder.close(abort.as_ref().map(|abort| (abort.kind, abort.message.as_str())));
    }
}

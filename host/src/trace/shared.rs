//! A recorder with several owners: the exchange that answers a request, the guest that may go on working after its
//! answer, and the calls that it has under way.
//!
//! The spans are handed over when the last owner is gone, so nothing that any of them records is lost. The exchange
//! says how the request ended; a recorder that is dropped before that ends its spans as cancelled.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
pub struct SharedRecorder(Arc<Shared>);

struct Shared {
    recorder: Mutex<Recorder>,
    /// Set when the exchange has ended: why it was aborted, if it was.
    ended: OnceLock<Option<Abort>>,
}

impl SharedRecorder {
    /// Shares a recorder that had one owner until now.
    pub fn new(recorder: Recorder) -> SharedRecorder {
        SharedRecorder(Arc::new(Shared { recorder: Mutex::new(recorder), ended: OnceLock::new() }))
    }

    /// Records something. Owners wait for each other for as long as `record` takes.
    pub fn with<T>(&self, record: impl FnOnce(&mut Recorder) -> T) -> T {
        record(&mut self.0.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the server span and says how the request ended. What other owners record from here on is kept, too.
    pub fn end(&self, abort: Option<Abort>) {
        self.with(|recorder| recorder.end(recorder.server()));
        // The first to say how it ended is right.
        let _ = self.0.ended.set(abort);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(abort) = self.ended.take() else { return };
        let recorder = self.recorder.get_mut().unwrap_or_else(PoisonError::into_inner);
        let recorder = std::mem::replace(recorder, Recorder::detached());
        recorder.finish(abort.as_ref().map(|abort| (abort.kind, abort.message.as_str())));
    }
}

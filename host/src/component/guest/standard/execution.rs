//! The execution of one request in a standard guest, shared by the exchange, the guest's store and the guest's outgoing
//! calls.
//!
//! A guest may continue after its response: while the body streams, and afterwards. Its cost and its failure are
//! therefore kept here and not in the instance.

use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::component::cost::Cost;
use crate::component::failure::Failure;
use crate::trace::Recorder;

/// Cost, failure and progress of one request in a standard guest.
#[derive(Debug, Default)]
pub struct GuestExecution {
    busy: AtomicU64,
    memory: AtomicU64,
    reused: AtomicBool,
    failure: OnceLock<Failure>,
    /// The exchange has ended: the guest records what happens from here on.
    exchange_ended: AtomicBool,
    /// The response body has ended or was dropped.
    body_has_ended: AtomicBool,
    /// Notified when it has.
    body_ended: Notify,
    /// The response was sent, body included.
    answered: AtomicBool,
}

impl GuestExecution {
    /// Adds CPU time.
    pub fn add_busy(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.busy.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Sets the size of the instance's linear memory.
    pub fn set_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    /// Sets whether the instance had served requests before.
    pub fn set_reused(&self, reused: bool) {
        self.reused.store(reused, Ordering::Relaxed);
    }

    /// The cost of the request so far.
    pub fn cost(&self) -> Cost {
        Cost {
            busy: Duration::from_nanos(self.busy.load(Ordering::Relaxed)),
            memory: self.memory.load(Ordering::Relaxed),
            reused: self.reused.load(Ordering::Relaxed),
        }
    }

    /// Why the guest failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// Sets why the guest failed although it has not ended.
    pub fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
    }

    /// Marks the exchange as ended; from now on [`end`](Self::end) records the guest's outcome. Called while the
    /// recorder is locked.
    pub fn end_exchange(&self) {
        self.exchange_ended.store(true, Ordering::Relaxed);
    }

    /// Sets the guest's end, with its failure if there was one. If the exchange has ended before, this records the
    /// failure and the cost on the server span. Call it before the store is dropped, since the body's end reads the
    /// failure.
    pub fn end(&self, failure: Option<Failure>, recorder: &mut Recorder) {
        let is_late = self.exchange_ended.load(Ordering::Relaxed);
        if let Some(Failure::Trapped(exception)) = failure.as_ref().filter(|_| is_late) {
            exception.record(recorder);
        }
        if let Some(failure) = failure {
            self.fail(failure);
        }
        if is_late && recorder.is_recording() {
            self.cost().record(recorder);
        }
    }

    /// Marks the response body as ended or dropped.
    pub fn end_body(&self) {
        self.body_has_ended.store(true, Ordering::Release);
        self.body_ended.notify_waiters();
    }

    /// Marks the response as sent, body included.
    pub fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether the response was sent, body included.
    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until the response body has ended or was dropped.
    pub async fn body_ended(&self) {
        let mut ended = pin!(self.body_ended.notified());
        ended.as_mut().enable();
        if !self.body_has_ended.load(Ordering::Acquire) {
            ended.await;
        }
    }
}

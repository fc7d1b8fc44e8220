//! The execution of one request in a standard guest, shared by the exchange, the guest's store and the guest's outgoing
//! calls.
//!
//! A guest may continue after its response: while the body streams, and afterwards. Its cost and its failure are
//! therefore kept here and not in the instance.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::body_buffer::BodyBuffer;
use crate::component::cost::Cost;
use crate::component::failure::Failure;
use crate::component::guest_output::GuestOutput;
use crate::trace::SharedRecorder;

/// Cost, failure and progress of one request in a standard guest.
#[derive(Debug, Default)]
pub struct GuestExecution {
    busy: AtomicU64,
    memory: AtomicU64,
    reused: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// The exchange has ended: the guest records what happens from here on.
    exchange_ended: AtomicBool,
    body: Mutex<BodyBuffer>,
    /// The response body has ended or was dropped.
    body_has_ended: AtomicBool,
    /// Notified when it has.
    body_ended: Notify,
    /// The response was sent, body included.
    answered: AtomicBool,
    /// The request's own output streams, if its instance serves several requests: created when the guest may write, as
    /// most guests never do. `None` if the request has ended without them.
    output: OnceLock<Option<(GuestOutput, GuestOutput)>>,
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

    /// The request's own output streams, which are created if there are none. `None` after the request has ended.
    pub fn open_output(&self) -> Option<&(GuestOutput, GuestOutput)> {
        self.output.get_or_init(|| Some(Default::default())).as_ref()
    }

    /// The request's own output streams, if there are any.
    pub fn output(&self) -> Option<&(GuestOutput, GuestOutput)> {
        self.output.get()?.as_ref()
    }

    /// The same. None are created from now on.
    pub fn close_output(&self) -> Option<&(GuestOutput, GuestOutput)> {
        self.output.get_or_init(|| None).as_ref()
    }

    /// Why the guest failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.lock_failure().clone()
    }

    fn lock_failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets why the guest failed although it has not ended.
    pub fn fail(&self, failure: Failure) {
        self.lock_failure().get_or_insert(failure);
    }

    /// Marks the exchange as ended; from now on [`end`](Self::end) records the guest's outcome. Called while the
    /// recorder is locked.
    pub fn end_exchange(&self) {
        self.exchange_ended.store(true, Ordering::Relaxed);
    }

    /// Sets the guest's end, with its failure if there was one. Call it before the store is dropped, since the body's end
    /// reads the failure.
    ///
    /// If the guest fails after it has finished its response, the client gets the whole response, and this records the
    /// failure on the server span. If the exchange has ended before, this also records the cost.
    pub fn end(&self, failure: Option<Failure>, recorder: &SharedRecorder) {
        // Outside of the recorder's lock: a body that is the response of another service ends its client span.
        let has_finished = failure.is_some() && self.body().is_finished();
        recorder.with(|recorder| {
            let exchange_ended = self.exchange_ended.load(Ordering::Relaxed);
            match failure {
                Some(Failure::Trapped(exception)) if has_finished || exchange_ended => exception.record(recorder),
                Some(failure) => self.fail(failure),
                None => {}
            }
            if exchange_ended && recorder.is_recording() {
                self.cost().record(recorder);
            }
        });
    }

    /// Call it when the store was dropped. A response body that has not ended by then is not written by the guest: the
    /// guest passes on the response of another service, or its own request. It is sent to its end, so that a trap is not
    /// a failure of the response.
    pub fn store_dropped(&self, recorder: &SharedRecorder) {
        // No lock is held while another is taken: readers of the body, and the exchange, take them in other orders.
        let failure = self.failure();
        let Some(Failure::Trapped(exception)) = failure else { return };
        let is_running = self.body().is_running();
        if is_running {
            *self.lock_failure() = None;
            recorder.with(|recorder| exception.record(recorder));
        }
    }

    /// The response body.
    pub(super) fn body(&self) -> MutexGuard<'_, BodyBuffer> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the response body and marks it as ended.
    pub fn end_body(&self) {
        let body = std::mem::take(&mut *self.body());
        drop(body);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Poll;

    use bytes::Bytes;
    use futures_util::stream;
    use http::Response;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use wasmtime_wasi_http::Error;

    use super::super::body::GuestResponseBody;
    use super::*;
    use crate::component::failure::Exception;
    use crate::trace::Recorder;

    /// An execution whose guest has trapped. The body, which is the response of another service, ends its client span
    /// when it `ends`.
    fn trapped(ends: bool) -> (Arc<GuestExecution>, Response<GuestResponseBody>, SharedRecorder) {
        let execution = Arc::<GuestExecution>::default();
        let recorder = SharedRecorder::new(Recorder::detached());
        let client_span = recorder.clone();
        let frames = stream::poll_fn(move |_| {
            client_span.with(|_| ());
            if ends { Poll::Ready(None::<Result<Frame<Bytes>, Error>>) } else { Poll::Pending }
        });
        let response = GuestResponseBody::of(Response::new(StreamBody::new(frames).boxed_unsync()), &execution);
        let (kind, message, stacktrace) = ("trap", String::from("a trap"), String::new());
        execution.end(Some(Failure::Trapped(Exception { kind, message, stacktrace })), &recorder);
        (execution, response, recorder)
    }

    #[test]
    fn a_trap_is_no_failure_of_a_response_that_was_finished_before() {
        assert!(trapped(true).0.failure().is_none());
        assert!(trapped(false).0.failure().is_some());
    }

    #[test]
    fn a_trap_is_no_failure_of_a_body_that_continues_without_the_guest() {
        let (execution, response, recorder) = trapped(false);
        execution.store_dropped(&recorder);
        assert!(execution.failure().is_none());
        drop(response);
        let (execution, response, recorder) = trapped(false);
        drop(response);
        execution.store_dropped(&recorder);
        assert!(execution.failure().is_some(), "the reader is gone");
    }
}

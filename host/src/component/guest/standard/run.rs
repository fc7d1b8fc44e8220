//! One request as it runs in a standard guest, shared by the exchange that answers it, the guest's store and the
//! calls that the guest makes.
//!
//! A guest may go on after its response: while the body streams, and afterwards. What it costs and how it ends is
//! therefore kept here and not in the instance.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::component::cost::Cost;
use crate::component::failure::Failure;
use crate::trace::Recorder;

/// What is known of one request in a standard guest.
#[derive(Debug, Default)]
pub struct Run {
    busy: AtomicU64,
    memory: AtomicU64,
    reused: AtomicBool,
    failure: OnceLock<Failure>,
    /// The exchange has ended: what happens from here on is for the guest to tell.
    left_to_guest: AtomicBool,
    body_over: Notify,
}

impl Run {
    /// Runs a future of the guest and adds the time that it keeps a thread busy.
    pub async fn measured<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            let start = Instant::now();
            let polled = future.as_mut().poll(context);
            self.add_busy(start.elapsed());
            polled
        })
        .await
    }

    /// Adds time for which a thread was kept busy.
    pub fn add_busy(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.busy.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Says how much linear memory the instance has.
    pub fn set_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    /// Says that the instance had served before.
    pub fn set_reused(&self, reused: bool) {
        self.reused.store(reused, Ordering::Relaxed);
    }

    /// What the request has cost until now.
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

    /// Says that the exchange has ended, and tells nothing more of the guest. Called while the recorder is locked.
    pub fn leave_to_guest(&self) {
        self.left_to_guest.store(true, Ordering::Relaxed);
    }

    /// Says that the guest has ended, and why if it failed. Where the exchange has ended before, what is left to tell is
    /// put on the server span here. The store must not be dropped before: the body's end asks for the failure.
    pub fn end(&self, failure: Option<Failure>, recorder: &mut Recorder) {
        let is_late = self.left_to_guest.load(Ordering::Relaxed);
        if let Some(Failure::Trapped(exception)) = failure.as_ref().filter(|_| is_late) {
            exception.record(recorder);
        }
        if let Some(failure) = failure {
            let _ = self.failure.set(failure);
        }
        if is_late && recorder.is_recording() {
            self.cost().record(recorder);
        }
    }

    /// Says that the response body has ended or was given up.
    pub fn end_body(&self) {
        self.body_over.notify_one();
    }

    /// Waits until the response body has ended or was given up.
    pub async fn body_over(&self) {
        self.body_over.notified().await;
    }
}

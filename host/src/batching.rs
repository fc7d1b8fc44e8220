//! Lets a busy thread write responses in batches.
//!
//! Each response that is written wakes its client. If that is a process on the same machine, such as a proxy, host and
//! client would take turns on the core for each request. A thread with several requests to handle therefore handles all
//! of them before it writes the responses: it does the same work with fewer changes of context, so that responses are
//! sent earlier on average, too.
//!
//! A response is not held back if its thread usually has no other request at the same time, or if a guest has lately
//! computed for long on that thread: finished responses would wait for such guests.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// After a guest has computed for longer than this at a time, its thread writes responses at once for a while.
const LONG_COMPUTATION: Duration = Duration::from_micros(500);
/// The number of those responses.
const UNBATCHED_RESPONSES: u32 = 256;

thread_local! {
    static THREAD_LOAD: ThreadLoad = const { ThreadLoad::new() };
}

/// What a thread has done lately. It is busy for a period, idle, busy again, and so on.
struct ThreadLoad {
    /// The number of requests in the current busy period.
    requests: Cell<u32>,
    /// The number of requests in the last busy period that had any.
    last_requests: Cell<u32>,
    /// The number of responses to write at once.
    unbatched: Cell<u32>,
}

impl ThreadLoad {
    const fn new() -> ThreadLoad {
        ThreadLoad { requests: Cell::new(0), last_requests: Cell::new(0), unbatched: Cell::new(0) }
    }

    /// Counts a request, and returns whether its response waits for those of other requests.
    fn is_batched(&self) -> bool {
        let (requests, unbatched) = (self.requests.get(), self.unbatched.get());
        self.requests.set(requests.saturating_add(1));
        self.unbatched.set(unbatched.saturating_sub(1));
        (requests > 0 || self.last_requests.get() > 1) && unbatched == 0
    }

    fn end_period(&self) {
        // The runtime may wake a thread for something else than requests.
        if self.requests.get() > 0 {
            self.last_requests.set(self.requests.replace(0));
        }
    }

    fn guest_ran(&self, time: Duration) {
        if time > LONG_COMPUTATION {
            self.unbatched.set(UNBATCHED_RESPONSES);
        }
    }
}

/// Records that this thread has nothing to do. The runtime calls it.
pub(crate) fn thread_is_idle() {
    THREAD_LOAD.with(ThreadLoad::end_period);
}

/// Records for how long a guest has run on this thread without a pause.
pub(crate) fn guest_ran(time: Duration) {
    THREAD_LOAD.with(|load| load.guest_ran(time));
}

/// Waits until the other tasks of this thread that are ready have run once, if responses are batched.
pub(crate) async fn wait_for_batch() {
    if !THREAD_LOAD.with(ThreadLoad::is_batched) {
        return;
    }
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        // A task that wakes itself goes to the end of the thread's queue.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_batched_while_a_thread_has_several_requests_at_a_time() {
        let load = ThreadLoad::new();
        let period = |requests: usize| {
            let batched: Vec<_> = (0..requests).map(|_| load.is_batched()).collect();
            load.end_period();
            load.end_period();
            batched
        };
        assert_eq!(period(3), [false, true, true]);
        assert_eq!(period(2), [true, true]);
        assert_eq!(period(1), [true]);
        assert_eq!(period(1), [false]);
    }

    #[test]
    fn responses_are_not_held_back_after_a_long_computation() {
        let load = ThreadLoad::new();
        load.is_batched();
        load.guest_ran(LONG_COMPUTATION);
        assert!(load.is_batched());
        load.guest_ran(LONG_COMPUTATION + Duration::from_nanos(1));
        assert!((0..UNBATCHED_RESPONSES).all(|_| !load.is_batched()));
        assert!(load.is_batched());
    }

    #[tokio::test]
    async fn other_ready_tasks_run_before_a_batched_response() {
        // Another test may have run on this thread.
        THREAD_LOAD.with(|load| load.unbatched.set(0));
        wait_for_batch().await;
        let other = tokio::spawn(async {});
        wait_for_batch().await;
        assert!(other.is_finished());
    }
}

//! Polls a future until it waits for something outside of itself.
//!
//! A store returns pending and wakes itself when one of its tasks has made progress for another. Rescheduling the task
//! of the request each time would cost more than what is left to do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::batching;
use crate::woken::Woken;

/// The most times that a future is polled again at once, and the longest time for it: one that always wakes itself would
/// keep other tasks from its thread.
const MAX_POLLS: usize = 64;
const MAX_TIME: Duration = Duration::from_millis(5);

/// A future that is polled again at once if it was woken while it was polled.
pub(super) struct UntilBlocked<'a, F, A> {
    future: F,
    waker: &'a ReusableWaker,
    /// Receives the time of each turn, in which the future is polled once or more.
    add_time: A,
    max_time: Duration,
}

/// The waker of the futures of one instance, one after the other. A late wake for an earlier future costs the current
/// one a poll.
pub(super) struct ReusableWaker {
    woken: Arc<Woken>,
    waker: Waker,
}

impl Default for ReusableWaker {
    fn default() -> ReusableWaker {
        let woken = Arc::<Woken>::default();
        ReusableWaker { waker: Waker::from(woken.clone()), woken }
    }
}

impl<'a, F: Future + Unpin, A: FnMut(Duration) + Unpin> UntilBlocked<'a, F, A> {
    /// Wraps a future. `add_time` receives how long it runs.
    pub fn new(future: F, waker: &'a ReusableWaker, add_time: A) -> UntilBlocked<'a, F, A> {
        UntilBlocked { future, waker, add_time, max_time: MAX_TIME }
    }

    /// Polls the future until it is ready or waits, for up to [`MAX_POLLS`] times from `began` on.
    fn poll_repeatedly(&mut self, context: &mut Context<'_>, began: Instant) -> Poll<F::Output> {
        let UntilBlocked { future, waker: ReusableWaker { woken, waker }, max_time, .. } = self;
        // Without a task to wake, a wake during a poll only sets the flag.
        drop(woken.task.take());
        for repetition in 0..MAX_POLLS {
            woken.is_woken.store(false, Ordering::Release);
            if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if !woken.is_woken.load(Ordering::Acquire) {
                woken.task.register(context.waker());
                // A wake before the line above has found no task.
                if !woken.is_woken.load(Ordering::Acquire) {
                    return Poll::Pending;
                }
                drop(woken.task.take());
            }
            // The clock is not read for the first repetition, after which most futures are ready.
            if repetition > 0 && began.elapsed() > *max_time {
                break;
            }
        }
        woken.task.register(context.waker());
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<F: Future + Unpin, A: FnMut(Duration) + Unpin> Future for UntilBlocked<'_, F, A> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let began = Instant::now();
        let polled = self.poll_repeatedly(context, began);
        let time = began.elapsed();
        (self.add_time)(time);
        batching::guest_ran(time);
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A future that wakes itself this many times before it ends.
    fn woken(mut times: usize) -> impl Future<Output = &'static str> {
        poll_fn(move |context| {
            if times == 0 {
                return Poll::Ready("done");
            }
            times -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn a_future_that_wakes_itself_ends_within_one_poll() {
        let reusable = ReusableWaker::default();
        let mut turns = 0;
        let mut future = UntilBlocked::new(Box::pin(woken(5)), &reusable, |_| turns += 1);
        // However long the thread of the test is interrupted.
        future.max_time = Duration::MAX;
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert_eq!((polled, count.0.load(Ordering::Relaxed)), (Poll::Ready("done"), 0));
        assert_eq!(turns, 1);
    }

    #[test]
    fn a_future_that_always_wakes_itself_gives_way_and_is_scheduled_again() {
        let reusable = ReusableWaker::default();
        let mut future = UntilBlocked::new(Box::pin(woken(usize::MAX)), &reusable, |_| ());
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert_eq!((polled, count.0.load(Ordering::Relaxed)), (Poll::Pending, 1));
    }

    #[test]
    fn a_slow_future_that_wakes_itself_gives_way_after_its_time() {
        let mut polls = 0;
        let slow = poll_fn(move |context| {
            polls += 1;
            let busy_until = Instant::now() + 2 * MAX_TIME;
            while Instant::now() < busy_until {}
            context.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        let reusable = ReusableWaker::default();
        let mut busy = Duration::ZERO;
        let mut future = UntilBlocked::new(slow, &reusable, |time| busy += time);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(busy >= 4 * MAX_TIME, "{busy:?}");
    }

    #[tokio::test]
    async fn a_wake_from_another_thread_reaches_the_task_that_polled_last() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut future = UntilBlocked::new(receiver, Box::leak(Box::default()), |_| ());
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        let thread = std::thread::spawn(move || sender.send(7));
        let received = tokio::time::timeout(Duration::from_secs(30), tokio::spawn(future)).await;
        assert_eq!(received.unwrap().unwrap(), Ok(7));
        thread.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_future_that_yields_lets_other_tasks_run() {
        let reusable = ReusableWaker::default();
        let future = UntilBlocked::new(Box::pin(tokio::task::yield_now()), &reusable, |_| ());
        let mut future = std::pin::pin!(future);
        let first = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        assert!(first.is_pending(), "a yield is no wake of its own");
        future.await;
    }
}

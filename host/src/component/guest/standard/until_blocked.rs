//! Polls a future until it waits for something outside of itself.
//!
//! A store returns pending and wakes itself when one of its tasks has made progress for another. Rescheduling the task
//! of the request each time would cost more than what is left to do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

/// The most times that a future is polled again at once, and the longest time for it: one that always wakes itself would
/// keep other tasks from its thread.
const MAX_POLLS: usize = 64;
const MAX_TIME: Duration = Duration::from_millis(5);

/// A future that is polled again at once if it was woken while it was polled.
pub(super) struct UntilBlocked<F> {
    future: F,
    woken: Arc<Woken>,
    waker: Waker,
    max_time: Duration,
}

/// Records that the future was woken, and wakes the task that polls it.
#[derive(Default)]
struct Woken {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Only the first wake matters to the task, until it polls again.
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }
}

impl<F: Future + Unpin> UntilBlocked<F> {
    pub fn new(future: F) -> UntilBlocked<F> {
        let woken = Arc::<Woken>::default();
        UntilBlocked { future, waker: Waker::from(woken.clone()), woken, max_time: MAX_TIME }
    }
}

impl<F: Future + Unpin> Future for UntilBlocked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let UntilBlocked { future, woken, waker, max_time } = &mut *self;
        // Without a task to wake, a wake during a poll only sets the flag.
        drop(woken.task.take());
        let began = Instant::now();
        for _ in 0..MAX_POLLS {
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
            if began.elapsed() > *max_time {
                break;
            }
        }
        woken.task.register(context.waker());
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

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
        // However long the thread of the test is interrupted.
        let mut future = UntilBlocked { max_time: Duration::MAX, ..UntilBlocked::new(Box::pin(woken(5))) };
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert_eq!((polled, count.0.load(Ordering::Relaxed)), (Poll::Ready("done"), 0));
    }

    #[test]
    fn a_future_that_always_wakes_itself_gives_way_and_is_scheduled_again() {
        let mut future = UntilBlocked::new(Box::pin(woken(usize::MAX)));
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
            if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut future = UntilBlocked::new(slow);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_wake_from_another_thread_reaches_the_task_that_polled_last() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut future = UntilBlocked::new(receiver);
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        let thread = std::thread::spawn(move || sender.send(7));
        let received = tokio::time::timeout(Duration::from_secs(30), tokio::spawn(future)).await;
        assert_eq!(received.unwrap().unwrap(), Ok(7));
        thread.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_future_that_yields_lets_other_tasks_run() {
        let future = UntilBlocked::new(Box::pin(tokio::task::yield_now()));
        let mut future = std::pin::pin!(future);
        let first = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        assert!(first.is_pending(), "a yield is no wake of its own");
        future.await;
    }
}

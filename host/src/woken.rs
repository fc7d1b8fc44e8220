//! Futures that are polled only when they were woken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Records that a future was woken, and wakes the task that polls it.
#[derive(Default)]
pub(crate) struct Woken {
    /// Whether the future was woken since this was set to false.
    pub is_woken: AtomicBool,
    /// The task. It is woken once for each time that `is_woken` becomes true.
    pub task: AtomicWaker,
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

/// A future that is polled only when it was woken, however often its task is polled for other reasons.
pub(crate) struct WhenWoken<F> {
    future: F,
    woken: Arc<Woken>,
    waker: Waker,
    /// The waker of the task that polled last.
    task: Option<Waker>,
}

impl<F> WhenWoken<F> {
    /// Wraps a future. The first poll reaches it.
    pub fn new(future: F) -> WhenWoken<F> {
        let woken = Arc::new(Woken { is_woken: AtomicBool::new(true), task: AtomicWaker::new() });
        WhenWoken { future, waker: Waker::from(woken.clone()), woken, task: None }
    }
}

impl<F: Future + Unpin> Future for WhenWoken<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let is_registered = this.task.as_ref().is_some_and(|task| task.will_wake(context.waker()));
        if is_registered && !this.woken.is_woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // A wake has taken the waker.
        this.woken.task.register(context.waker());
        this.task = Some(context.waker().clone());
        if !this.woken.is_woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_future_is_polled_only_when_it_was_woken() {
        let wakers = Mutex::new(Vec::new());
        let mut future = WhenWoken::new(poll_fn(|context| {
            wakers.lock().unwrap().push(context.waker().clone());
            Poll::<()>::Pending
        }));
        let polls = || wakers.lock().unwrap().len();
        let tasks = [(); 2].map(|()| Arc::<Woken>::default());
        let mut poll = |task: &Arc<Woken>| {
            let waker = Waker::from(task.clone());
            assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
            polls()
        };
        let [first, second] = &tasks;
        assert_eq!([poll(first), poll(first), poll(second)], [1, 1, 1]);
        wakers.lock().unwrap()[0].wake_by_ref();
        assert!(!first.is_woken.load(Ordering::Relaxed) && second.is_woken.load(Ordering::Relaxed));
        assert_eq!([poll(second), poll(second)], [2, 2]);
    }

    #[tokio::test]
    async fn a_wake_reaches_the_task_that_polled_last() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut future = WhenWoken::new(receiver);
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await;
        assert!(first.is_pending());
        let task = tokio::spawn(future);
        tokio::task::yield_now().await;
        sender.send(7).unwrap();
        let received = tokio::time::timeout(Duration::from_secs(30), task).await;
        assert_eq!(received.unwrap().unwrap(), Ok(7));
    }
}

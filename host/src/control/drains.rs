//! Drains of services and ports that were removed from the manifest, and of generations that were replaced. The host
//! does not exit before they have ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::component::BackgroundWork;
use crate::serve::listener::Listener;
use crate::services::Service;

/// The longest time that cancelled requests may take to end.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// The drains in progress.
#[derive(Default)]
pub(crate) struct Drains {
    tasks: Mutex<JoinSet<()>>,
    /// Services that were removed from the manifest and still have requests in flight.
    services: Mutex<Vec<Arc<Service>>>,
    /// True when all drains must cancel their remaining requests.
    cancel: watch::Sender<bool>,
    /// Whether any drain has cancelled requests.
    has_cancelled: Arc<AtomicBool>,
}

impl Drains {
    /// Resolves when a drain that starts now must cancel its remaining requests: after `limit`, or earlier if the
    /// shutdown of the host cancels all drains.
    pub fn deadline(&self, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut cancel = self.cancel.subscribe();
        async move {
            let cancelled = async {
                if cancel.wait_for(|cancel| *cancel).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(limit) => {}
                () = cancelled => {}
            }
        }
    }

    /// Runs `drain` to completion. The shutdown of the host waits for it.
    pub fn spawn(&self, drain: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(drain);
    }

    /// Drains a listener that no service uses any more.
    pub fn drain_listener(&self, listener: Listener, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (deadline, has_cancelled) = (self.deadline(limit), self.has_cancelled.clone());
        async move {
            if !listener.drain(deadline).await {
                has_cancelled.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Waits for `listeners`, then for guests that continue after their responses. Guests that exceed the limit are
    /// stopped, so that their spans are still exported.
    pub fn drain_background<L: Future<Output = ()> + Send + 'static>(
        &self,
        listeners: Vec<L>,
        background: BackgroundWork,
        limit: Duration,
    ) -> impl Future<Output = ()> + Send + use<L> {
        let (deadline, has_cancelled) = (self.deadline(limit), self.has_cancelled.clone());
        async move {
            join_all(listeners).await;
            tokio::select! {
                biased;
                () = background.ended() => return,
                () = deadline => has_cancelled.store(true, Ordering::Relaxed),
            }
            background.stop();
            background.ended().await;
        }
    }

    /// Records that a removed service has started to drain.
    pub fn begin(&self, service: Arc<Service>) {
        lock(&self.services).push(service);
    }

    /// Records that a removed service has finished draining.
    pub fn finish(&self, service: &Arc<Service>) {
        lock(&self.services).retain(|other| !Arc::ptr_eq(other, service));
    }

    /// The removed services that are still draining.
    pub fn services(&self) -> Vec<Arc<Service>> {
        lock(&self.services).clone()
    }

    /// Waits for all drains. After `limit` the remaining requests are cancelled. Returns whether any were.
    pub async fn wait(&self, limit: Duration) -> bool {
        let mut all = std::pin::pin!(self.all_ended());
        if tokio::time::timeout(limit, &mut all).await.is_err() {
            self.cancel.send_replace(true);
            self.has_cancelled.store(true, Ordering::Relaxed);
            tokio::time::timeout(CANCEL_LIMIT, all).await.ok();
        }
        self.has_cancelled.load(Ordering::Relaxed)
    }

    /// Waits for all drains, including those that start meanwhile.
    async fn all_ended(&self) {
        loop {
            let mut tasks = std::mem::take(&mut *lock(&self.tasks));
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_drain_that_begins_during_the_wait_is_waited_for() {
        let (drains, ended) = (Arc::new(Drains::default()), Arc::new(AtomicBool::new(false)));
        let (later, has_ended) = (drains.clone(), ended.clone());
        drains.spawn(async move {
            later.spawn(async move {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                has_ended.store(true, Ordering::Relaxed);
            });
        });
        assert!(!drains.wait(LONG).await, "nothing was cancelled");
        assert!(ended.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn drains_that_outlast_the_limit_are_cancelled_and_still_end() {
        let (drains, ended) = (Drains::default(), Arc::new(AtomicBool::new(false)));
        let (deadline, has_ended) = (drains.deadline(LONG), ended.clone());
        drains.spawn(async move {
            deadline.await;
            has_ended.store(true, Ordering::Relaxed);
        });
        assert!(drains.wait(Duration::ZERO).await, "it was cancelled");
        assert!(ended.load(Ordering::Relaxed));
    }
}

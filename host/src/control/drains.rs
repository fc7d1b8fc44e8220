//! Drains of services and ports that were removed from the manifest. The host does not exit before they have ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::component::BackgroundWork;
use crate::serve::listener::Listener;
use crate::services::Service;

/// How long requests may take to end after they were cancelled.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// The drains in progress.
#[derive(Default)]
pub(crate) struct Drains {
    tasks: Mutex<JoinSet<()>>,
    /// Services that were removed from the manifest and still have requests in flight.
    services: Mutex<Vec<Arc<Service>>>,
    /// True when the remaining requests must be cancelled.
    cut: watch::Sender<bool>,
    has_cut: Arc<AtomicBool>,
}

impl Drains {
    /// Resolves when a drain that starts now, with a limit of `limit`, must cancel its remaining requests.
    pub fn until(&self, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut cut = self.cut.subscribe();
        async move {
            let hurry = async {
                if cut.wait_for(|cut| *cut).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(limit) => {}
                () = hurry => {}
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
    pub fn listener(&self, listener: Listener, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (until, has_cut) = (self.until(limit), self.has_cut.clone());
        async move {
            if !listener.drain(until).await {
                has_cut.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Waits for `listeners`, then for guests that continue after their responses. Guests that exceed the limit are
    /// stopped, so that their spans are still exported.
    pub fn background<L: Future<Output = ()> + Send + 'static>(
        &self,
        listeners: Vec<L>,
        background: BackgroundWork,
        limit: Duration,
    ) -> impl Future<Output = ()> + Send + use<L> {
        let (until, has_cut) = (self.until(limit), self.has_cut.clone());
        async move {
            join_all(listeners).await;
            tokio::select! {
                biased;
                () = background.ended() => return,
                () = until => has_cut.store(true, Ordering::Relaxed),
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
    pub async fn end(&self, limit: Duration) -> bool {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let mut all = std::pin::pin!(async { while tasks.join_next().await.is_some() {} });
        if tokio::time::timeout(limit, &mut all).await.is_err() {
            self.cut.send_replace(true);
            self.has_cut.store(true, Ordering::Relaxed);
            tokio::time::timeout(CUT_LIMIT, all).await.ok();
        }
        self.has_cut.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

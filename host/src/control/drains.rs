//! What still runs for services and ports that are no more, so that the host does not end before it has ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::component::BackgroundWork;
use crate::serve::listener::Listener;
use crate::services::Service;

/// How long what is cut off may take to be gone.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// Drains under way.
#[derive(Default)]
pub(crate) struct Drains {
    tasks: Mutex<JoinSet<()>>,
    /// Services that were taken out of the manifest and have requests in flight.
    services: Mutex<Vec<Arc<Service>>>,
    /// True when whatever is left must be cut off.
    cut: watch::Sender<bool>,
    has_cut: Arc<AtomicBool>,
}

impl Drains {
    /// Resolves when a drain that begins now and may take `limit` must cut off what is left.
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

    /// Runs `drain` to its end, which the host's own end waits for.
    pub fn spawn(&self, drain: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(drain);
    }

    /// Drains a listener that nobody needs any more.
    pub fn listener(&self, listener: Listener, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (until, has_cut) = (self.until(limit), self.has_cut.clone());
        async move {
            if !listener.drain(until).await {
                has_cut.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Waits for `listeners` and then for the guests that go on after their responses. What is left of those is stopped,
    /// so that their spans leave with the others.
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

    /// Notes that a service that was taken out has still to finish.
    pub fn begin(&self, service: Arc<Service>) {
        lock(&self.services).push(service);
    }

    /// Notes that it has finished.
    pub fn finish(&self, service: &Arc<Service>) {
        lock(&self.services).retain(|other| !Arc::ptr_eq(other, service));
    }

    /// The services that were taken out and have still to finish.
    pub fn services(&self) -> Vec<Arc<Service>> {
        lock(&self.services).clone()
    }

    /// Waits for all drains. After `limit` what is left is cut off. Tells whether anything was.
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

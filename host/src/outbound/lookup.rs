//! Name lookups of network calls, with a limit on concurrent lookups.
//!
//! The system's resolver blocks a thread while a name server does not respond. A lookup therefore holds a permit until
//! the resolver has returned, even if its caller was cancelled: the blocking threads of the runtime also serve the
//! state store and the file watcher. Concurrent lookups of one name share a single lookup, so that one unresponsive
//! name server cannot use all permits. A caller waits for a permit within its own timeout.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most concurrent lookups. Tokio has 512 threads for blocking work.
const LOOKUP_LIMIT: usize = 64;

/// The result of a lookup, shared by all callers that wait for it.
type LookupResult = Result<Vec<SocketAddr>, Arc<io::Error>>;

/// Resolves a name. Blocks the thread.
type Resolver = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The lookups of one client.
pub(super) struct Lookups {
    resolver: Arc<Resolver>,
    permits: Arc<Semaphore>,
    running: Arc<RunningLookups>,
}

/// The lookups that have a permit, by name.
#[derive(Default)]
struct RunningLookups(Mutex<HashMap<String, Shared<BoxFuture<'static, LookupResult>>>>);

/// A lookup whose resolver has not returned.
struct RunningLookup {
    name: String,
    running: Arc<RunningLookups>,
    _permit: OwnedSemaphorePermit,
}

impl Lookups {
    /// Lookups by the system's resolver.
    pub fn of_system() -> Arc<Lookups> {
        Lookups::new(LOOKUP_LIMIT, |name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    fn new(
        limit: usize,
        resolver: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Arc<Lookups> {
        let (permits, running) = (Arc::new(Semaphore::new(limit)), Arc::default());
        Arc::new(Lookups { resolver: Arc::new(resolver), permits, running })
    }

    /// The addresses of a name, with port 0.
    ///
    /// # Errors
    /// If the name does not resolve.
    pub async fn addresses(&self, name: &str) -> LookupResult {
        if let Some(running) = self.running.find(name) {
            return running.await;
        }
        let permit = self.permits.clone().acquire_owned().await.map_err(|error| Arc::new(io::Error::other(error)))?;
        let lookup = self.running.join(name, || self.start(name, permit));
        lookup.await
    }

    /// A lookup that starts when it is first polled. The blocking call owns the permit, not the callers that wait.
    fn start(&self, name: &str, permit: OwnedSemaphorePermit) -> Shared<BoxFuture<'static, LookupResult>> {
        let resolver = self.resolver.clone();
        let running = RunningLookup { name: name.to_owned(), running: self.running.clone(), _permit: permit };
        let lookup = async move {
            let resolved = tokio::task::spawn_blocking(move || resolver(&running.name)).await;
            resolved.map_err(io::Error::other).flatten().map_err(Arc::new)
        };
        lookup.boxed().shared()
    }
}

impl RunningLookups {
    fn find(&self, name: &str) -> Option<Shared<BoxFuture<'static, LookupResult>>> {
        self.lock().get(name).cloned()
    }

    /// The running lookup of a name. `start` starts it if none is running.
    fn join(
        &self,
        name: &str,
        start: impl FnOnce() -> Shared<BoxFuture<'static, LookupResult>>,
    ) -> Shared<BoxFuture<'static, LookupResult>> {
        self.lock().entry(name.to_owned()).or_insert_with(start).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Shared<BoxFuture<'static, LookupResult>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunningLookup {
    fn drop(&mut self) {
        self.running.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A timeout that expires only if the test fails.
    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    /// Lookups that end one by one, when the test releases them.
    struct ControlledLookups {
        lookups: Arc<Lookups>,
        started: tokio::sync::mpsc::UnboundedReceiver<String>,
        release: mpsc::Sender<()>,
        concurrent: Arc<AtomicUsize>,
    }

    impl ControlledLookups {
        fn new(limit: usize) -> ControlledLookups {
            let (start, started) = tokio::sync::mpsc::unbounded_channel();
            let (release, released) = mpsc::channel();
            let (released, concurrent) = (Mutex::new(released), Arc::new(AtomicUsize::new(0)));
            let running = concurrent.clone();
            let lookups = Lookups::new(limit, move |name| {
                running.fetch_add(1, Ordering::SeqCst);
                start.send(name.to_owned()).unwrap();
                released.lock().unwrap().recv_timeout(TEST_TIMEOUT).unwrap();
                running.fetch_sub(1, Ordering::SeqCst);
                match name {
                    "none.example" => Err(io::Error::other("no such name")),
                    _ => Ok(vec![([192, 0, 2, 1], 0).into()]),
                }
            });
            ControlledLookups { lookups, started, release, concurrent }
        }

        fn start(&self, name: &'static str) -> tokio::task::JoinHandle<LookupResult> {
            let lookups = self.lookups.clone();
            tokio::spawn(async move { lookups.addresses(name).await })
        }

        async fn started(&mut self) -> String {
            tokio::time::timeout(TEST_TIMEOUT, self.started.recv()).await.unwrap().unwrap()
        }

        async fn release_and_wait(&self, task: tokio::task::JoinHandle<LookupResult>) -> LookupResult {
            self.release.send(()).unwrap();
            tokio::time::timeout(TEST_TIMEOUT, task).await.unwrap().unwrap()
        }
    }

    #[tokio::test]
    async fn a_lookup_keeps_its_permit_after_its_caller_was_cancelled() {
        let mut controlled = ControlledLookups::new(1);
        let cancelled = controlled.start("a.example");
        assert_eq!(controlled.started().await, "a.example");
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        let waiting = controlled.start("b.example");
        let lookups = controlled.lookups.clone();
        let out_of_time = tokio::time::timeout(Duration::from_millis(50), lookups.addresses("c.example")).await;
        assert!(out_of_time.is_err(), "a permit was available");
        assert_eq!((controlled.concurrent.load(Ordering::SeqCst), controlled.started.try_recv().ok()), (1, None));
        controlled.release.send(()).unwrap();
        assert_eq!(controlled.started().await, "b.example");
        assert_eq!(controlled.release_and_wait(waiting).await.unwrap(), [([192, 0, 2, 1], 0).into()]);
        assert_eq!(controlled.lookups.permits.available_permits(), 1);
        assert!(controlled.lookups.running.lock().is_empty());
    }

    #[tokio::test]
    async fn concurrent_lookups_of_one_name_share_a_lookup() {
        let mut controlled = ControlledLookups::new(2);
        let first = controlled.start("a.example");
        controlled.started().await;
        let others: Vec<_> = (0..8).map(|_| controlled.start("a.example")).collect();
        let other_name = controlled.start("none.example");
        assert_eq!(controlled.started().await, "none.example", "another name has a permit");
        assert_eq!(controlled.concurrent.load(Ordering::SeqCst), 2);
        controlled.release.send(()).unwrap();
        controlled.release.send(()).unwrap();
        for task in others.into_iter().chain([first]) {
            assert_eq!(task.await.unwrap().unwrap().len(), 1);
        }
        assert_eq!(other_name.await.unwrap().unwrap_err().to_string(), "no such name");
        let again = controlled.start("a.example");
        assert_eq!(controlled.started().await, "a.example", "results are not cached");
        controlled.release_and_wait(again).await.unwrap();
    }
}

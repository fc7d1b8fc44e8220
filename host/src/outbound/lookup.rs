//! Name lookups of network calls, and how many of them run at a time.
//!
//! The system's resolver blocks a thread, for as long as a name server stays silent. A lookup therefore takes one of a
//! bounded number of slots and keeps it until the resolver has returned, even if its caller has left: the blocking
//! threads of the runtime also serve the state store and the file watcher. Concurrent lookups of one name are a single
//! lookup, so that one silent name server cannot take every slot. A caller waits for a slot within its own time limit.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most lookups at a time. Tokio has 512 threads for blocking work.
const MOST: usize = 64;

/// What a lookup finds, for everybody who waits for it.
type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;

/// Resolves a name and blocks until it has.
type Resolver = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The lookups of one client.
pub(super) struct Lookups {
    resolver: Arc<Resolver>,
    slots: Arc<Semaphore>,
    running: Arc<Running>,
}

/// The lookups that have a slot, by name.
#[derive(Default)]
struct Running(Mutex<HashMap<String, Shared<BoxFuture<'static, Found>>>>);

/// A slot of a lookup, until its resolver has returned.
struct Slot {
    name: String,
    running: Arc<Running>,
    _permit: OwnedSemaphorePermit,
}

impl Lookups {
    /// Lookups by the system's resolver.
    pub fn of_system() -> Arc<Lookups> {
        Lookups::new(MOST, |name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    fn new(
        most: usize,
        resolver: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Arc<Lookups> {
        let (slots, running) = (Arc::new(Semaphore::new(most)), Arc::default());
        Arc::new(Lookups { resolver: Arc::new(resolver), slots, running })
    }

    /// The addresses of a name, with port 0.
    ///
    /// # Errors
    /// If the name does not resolve.
    pub async fn addresses(&self, name: &str) -> Found {
        if let Some(running) = self.running.find(name) {
            return running.await;
        }
        let permit = self.slots.clone().acquire_owned().await.map_err(|error| Arc::new(io::Error::other(error)))?;
        let lookup = self.running.join(name, || self.start(name, permit));
        lookup.await
    }

    /// A lookup that begins when it is first polled. The slot goes with the blocking call, not with those who wait.
    fn start(&self, name: &str, permit: OwnedSemaphorePermit) -> Shared<BoxFuture<'static, Found>> {
        let resolver = self.resolver.clone();
        let slot = Slot { name: name.to_owned(), running: self.running.clone(), _permit: permit };
        let lookup = async move {
            let resolved = tokio::task::spawn_blocking(move || resolver(&slot.name)).await;
            resolved.map_err(io::Error::other).flatten().map_err(Arc::new)
        };
        lookup.boxed().shared()
    }
}

impl Running {
    fn find(&self, name: &str) -> Option<Shared<BoxFuture<'static, Found>>> {
        self.lock().get(name).cloned()
    }

    /// The lookup of a name, which is started unless it runs.
    fn join(
        &self,
        name: &str,
        start: impl FnOnce() -> Shared<BoxFuture<'static, Found>>,
    ) -> Shared<BoxFuture<'static, Found>> {
        self.lock().entry(name.to_owned()).or_insert_with(start).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Shared<BoxFuture<'static, Found>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
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

    /// A limit that only a failing test reaches.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Lookups that end one by one, whenever the test says so.
    struct Held {
        lookups: Arc<Lookups>,
        began: tokio::sync::mpsc::UnboundedReceiver<String>,
        release: mpsc::Sender<()>,
        at_once: Arc<AtomicUsize>,
    }

    impl Held {
        fn new(most: usize) -> Held {
            let (begin, began) = tokio::sync::mpsc::unbounded_channel();
            let (release, released) = mpsc::channel();
            let (released, at_once) = (Mutex::new(released), Arc::new(AtomicUsize::new(0)));
            let running = at_once.clone();
            let lookups = Lookups::new(most, move |name| {
                running.fetch_add(1, Ordering::SeqCst);
                begin.send(name.to_owned()).unwrap();
                released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                running.fetch_sub(1, Ordering::SeqCst);
                match name {
                    "none.example" => Err(io::Error::other("no such name")),
                    _ => Ok(vec![([192, 0, 2, 1], 0).into()]),
                }
            });
            Held { lookups, began, release, at_once }
        }

        fn ask(&self, name: &'static str) -> tokio::task::JoinHandle<Found> {
            let lookups = self.lookups.clone();
            tokio::spawn(async move { lookups.addresses(name).await })
        }

        async fn began(&mut self) -> String {
            tokio::time::timeout(PATIENCE, self.began.recv()).await.unwrap().unwrap()
        }

        async fn end_of(&self, asked: tokio::task::JoinHandle<Found>) -> Found {
            self.release.send(()).unwrap();
            tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap()
        }
    }

    #[tokio::test]
    async fn a_lookup_keeps_its_slot_after_its_caller_has_left() {
        let mut held = Held::new(1);
        let left = held.ask("a.example");
        assert_eq!(held.began().await, "a.example");
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        let waiting = held.ask("b.example");
        let lookups = held.lookups.clone();
        let out_of_time = tokio::time::timeout(Duration::from_millis(50), lookups.addresses("c.example")).await;
        assert!(out_of_time.is_err(), "a slot was free");
        assert_eq!((held.at_once.load(Ordering::SeqCst), held.began.try_recv().ok()), (1, None));
        held.release.send(()).unwrap();
        assert_eq!(held.began().await, "b.example");
        assert_eq!(held.end_of(waiting).await.unwrap(), [([192, 0, 2, 1], 0).into()]);
        assert_eq!(held.lookups.slots.available_permits(), 1);
        assert!(held.lookups.running.lock().is_empty());
    }

    #[tokio::test]
    async fn lookups_of_one_name_at_a_time_are_one() {
        let mut held = Held::new(2);
        let first = held.ask("a.example");
        held.began().await;
        let others: Vec<_> = (0..8).map(|_| held.ask("a.example")).collect();
        let other_name = held.ask("none.example");
        assert_eq!(held.began().await, "none.example", "another name has a slot");
        assert_eq!(held.at_once.load(Ordering::SeqCst), 2);
        held.release.send(()).unwrap();
        held.release.send(()).unwrap();
        for asked in others.into_iter().chain([first]) {
            assert_eq!(asked.await.unwrap().unwrap().len(), 1);
        }
        assert_eq!(other_name.await.unwrap().unwrap_err().to_string(), "no such name");
        let again = held.ask("a.example");
        assert_eq!(held.began().await, "a.example", "what was found is not kept");
        held.end_of(again).await.unwrap();
    }
}

//! How many connections the host holds open: those of one port, those of all services together, and those of the console
//! apart from them, so that whoever floods a service leaves the others and the console reachable.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Timeouts;

/// File descriptors that connections of services leave to all else: the console, files, connections to other hosts.
const DESCRIPTORS_KEPT: usize = 512;
/// Connections that the console holds open.
const CONSOLE_CONNECTIONS: usize = 128;

/// What a connection of a service has on top of the longest pause of its bodies: the body that pauses is given up first, and
/// its request is counted as what it is.
const STALL_GRACE: Duration = Duration::from_secs(1);

/// What listeners take connections under.
#[derive(Clone)]
pub struct Admission {
    /// Places that the listeners share.
    shared: Arc<Semaphore>,
    /// Places of each one.
    per_port: usize,
    /// What the connections are given.
    timeouts: Timeouts,
    /// The longest pause of bodies, asked for at each connection; none where `timeouts` says it all.
    stall: Option<Arc<dyn Fn() -> Duration + Send + Sync>>,
}

/// The places of one port.
pub(super) struct Places {
    shared: Arc<Semaphore>,
    own: Arc<Semaphore>,
    count: usize,
}

/// A connection's place: free again when this is dropped.
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

impl Admission {
    /// For the services' ports: `per_port` connections each, and of the file descriptors that the process may have no
    /// port more than half.
    pub fn services(per_port: usize, descriptors: usize, timeouts: Timeouts) -> Admission {
        let whole = descriptors.saturating_sub(DESCRIPTORS_KEPT).max(descriptors / 2).min(Semaphore::MAX_PERMITS);
        Admission {
            shared: Arc::new(Semaphore::new(whole)),
            per_port: per_port.min(whole.div_ceil(2)).max(1),
            timeouts,
            stall: None,
        }
    }

    /// The same for a service whose bodies pause for at most what `stall` says when a connection is accepted.
    pub fn stalling_for(&self, stall: impl Fn() -> Duration + Send + Sync + 'static) -> Admission {
        Admission { stall: Some(Arc::new(stall)), ..self.clone() }
    }

    /// For the console.
    pub fn console(timeouts: Timeouts) -> Admission {
        let shared = Arc::new(Semaphore::new(CONSOLE_CONNECTIONS));
        Admission { shared, per_port: CONSOLE_CONNECTIONS, timeouts, stall: None }
    }

    /// What a connection that is accepted now is given.
    pub fn timeouts(&self) -> Timeouts {
        match &self.stall {
            Some(stall) => Timeouts { stall: stall().saturating_add(STALL_GRACE), ..self.timeouts },
            None => self.timeouts,
        }
    }

    /// The places of a port.
    pub(super) fn port(&self) -> Places {
        Places { shared: self.shared.clone(), own: Arc::new(Semaphore::new(self.per_port)), count: self.per_port }
    }
}

impl Places {
    /// Waits for a place.
    pub async fn take(&self) -> Option<Place> {
        let own = self.own.clone().acquire_owned().await.ok()?;
        let shared = self.shared.clone().acquire_owned().await.ok()?;
        Some(Place { _own: own, _shared: shared })
    }

    /// Waits until every place is free.
    pub async fn all_free(&self) {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        drop(self.own.acquire_many(count).await);
    }
}

/// Raises the number of file descriptors that the process may have as far as the system lets it, and tells it. Every
/// connection takes one.
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of file descriptors could not be raised");
    }
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts() -> Timeouts {
        let second = Duration::from_secs(1);
        Timeouts { head: second, keep_alive: second, stall: second }
    }

    fn takes(places: &Places) -> bool {
        // A place that is there is taken at the first poll.
        let waker = std::task::Waker::noop();
        let taken = std::pin::pin!(places.take()).poll(&mut std::task::Context::from_waker(waker));
        match taken {
            std::task::Poll::Ready(place) => {
                std::mem::forget(place);
                true
            }
            std::task::Poll::Pending => false,
        }
    }

    #[test]
    fn a_flooded_port_leaves_places_to_others() {
        let admission = Admission::services(1_000_000, 1_024, timeouts());
        let (flooded, other) = (admission.port(), admission.port());
        let mut taken = 0;
        while takes(&flooded) {
            taken += 1;
        }
        assert_eq!(taken, 256);
        assert!(takes(&other));
        assert!(takes(&Admission::console(timeouts()).port()));
    }

    #[test]
    fn the_longest_pause_is_the_one_of_the_moment_of_the_accept() {
        let seconds = Arc::new(std::sync::atomic::AtomicU64::new(1));
        let asked = seconds.clone();
        let pause = move || Duration::from_secs(asked.load(std::sync::atomic::Ordering::Relaxed));
        let admission = Admission::services(10, 1_024, timeouts()).stalling_for(pause);
        assert_eq!(admission.timeouts().stall, Duration::from_secs(2));
        seconds.store(7, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(admission.timeouts().stall, Duration::from_secs(8));
    }

    #[test]
    fn ports_together_leave_descriptors_to_all_else() {
        let admission = Admission::services(10_000, 4_096, timeouts());
        let taken = std::iter::repeat_with(|| admission.port()).take(3).map(|port| {
            let mut taken = 0;
            while takes(&port) {
                taken += 1;
            }
            taken
        });
        assert_eq!(taken.sum::<usize>(), 4_096 - DESCRIPTORS_KEPT);
    }

    #[test]
    fn the_limit_of_descriptors_is_raised_to_the_hard_one() {
        let raised = raise_descriptor_limit();
        let hard = getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |limit| limit as usize);
        assert_eq!(raised, hard);
    }
}

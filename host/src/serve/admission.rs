//! Connection limits: per port, for all services in total, and separately for the console, so that a flood of
//! connections to one service leaves the others and the console reachable.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Timeouts;

/// File descriptors that connections of services leave for other uses: the console, files, outbound connections.
const DESCRIPTORS_KEPT: usize = 512;
/// The most open connections of the console.
const CONSOLE_CONNECTIONS: usize = 128;

/// Added to the longest pause of bodies for the connection's stall timeout, so that a stalled body ends first and its
/// request is recorded with the right outcome.
const STALL_GRACE: Duration = Duration::from_secs(1);

/// The connection limits and timeouts of listeners.
#[derive(Clone)]
pub struct Admission {
    /// Connection permits shared by all listeners.
    shared: Arc<Semaphore>,
    /// The permits of each listener.
    per_port: usize,
    /// The timeouts of the connections.
    timeouts: Timeouts,
    /// Returns the longest pause of bodies, evaluated for each connection; `None` if `timeouts` suffices.
    stall: Option<Arc<dyn Fn() -> Duration + Send + Sync>>,
}

/// The connection permits of one port.
pub(super) struct Places {
    shared: Arc<Semaphore>,
    own: Arc<Semaphore>,
    count: usize,
}

/// The permit of one connection, released when dropped.
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

impl Admission {
    /// For the services' ports: `per_port` connections each, but no port more than half of the process's file
    /// descriptors.
    pub fn services(per_port: usize, descriptors: usize, timeouts: Timeouts) -> Admission {
        let whole = descriptors.saturating_sub(DESCRIPTORS_KEPT).max(descriptors / 2).min(Semaphore::MAX_PERMITS);
        Admission {
            shared: Arc::new(Semaphore::new(whole)),
            per_port: per_port.min(whole.div_ceil(2)).max(1),
            timeouts,
            stall: None,
        }
    }

    /// The same for a service whose bodies may pause for as long as `stall` returns when a connection is accepted.
    pub fn stalling_for(&self, stall: impl Fn() -> Duration + Send + Sync + 'static) -> Admission {
        Admission { stall: Some(Arc::new(stall)), ..self.clone() }
    }

    /// For the console.
    pub fn console(timeouts: Timeouts) -> Admission {
        let shared = Arc::new(Semaphore::new(CONSOLE_CONNECTIONS));
        Admission { shared, per_port: CONSOLE_CONNECTIONS, timeouts, stall: None }
    }

    /// The timeouts of a connection that is accepted now.
    pub fn timeouts(&self) -> Timeouts {
        match &self.stall {
            Some(stall) => Timeouts { stall: stall().saturating_add(STALL_GRACE), ..self.timeouts },
            None => self.timeouts,
        }
    }

    /// The permits of a port.
    pub(super) fn port(&self) -> Places {
        Places { shared: self.shared.clone(), own: Arc::new(Semaphore::new(self.per_port)), count: self.per_port }
    }
}

impl Places {
    /// Waits for a permit.
    pub async fn take(&self) -> Option<Place> {
        let own = self.own.clone().acquire_owned().await.ok()?;
        let shared = self.shared.clone().acquire_owned().await.ok()?;
        Some(Place { _own: own, _shared: shared })
    }

    /// Waits until all permits are released.
    pub async fn all_free(&self) {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        drop(self.own.acquire_many(count).await);
    }
}

/// Raises the process's limit of file descriptors as far as the operating system permits, and returns it. Every
/// connection uses one.
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
        // An available permit is acquired at the first poll.
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

//! Connection limits: per port, for all services in total, and separately for the console, so that a flood of
//! connections to one service leaves the others and the console reachable.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Timeouts;

/// File descriptors that are reserved for the console, files and outbound connections.
const RESERVED_DESCRIPTORS: usize = 512;
/// The most open connections of the console.
const CONSOLE_CONNECTION_LIMIT: usize = 128;

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
    /// Returns the longest pause of bodies. It is evaluated for each connection and replaces the stall timeout of
    /// `timeouts`.
    pause_limit: Option<Arc<dyn Fn() -> Duration + Send + Sync>>,
}

/// The connection permits of one port. A connection needs a permit of its port and one of the permits that all ports
/// share.
pub(super) struct PortPermits {
    shared: Arc<Semaphore>,
    per_port: Arc<Semaphore>,
    /// The number of permits of the port.
    limit: usize,
}

/// The permit of one connection, released when dropped.
pub(super) struct ConnectionPermit {
    _per_port: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

impl Admission {
    /// The limits of the services' ports: `per_port` connections for each port, and at most half of the connections
    /// that all ports may have.
    pub fn services(per_port: usize, descriptors: usize, timeouts: Timeouts) -> Admission {
        let total = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(descriptors / 2).min(Semaphore::MAX_PERMITS);
        Admission {
            shared: Arc::new(Semaphore::new(total)),
            per_port: per_port.min(total.div_ceil(2)).max(1),
            timeouts,
            pause_limit: None,
        }
    }

    /// The same limits with a pause limit for bodies. `pause_limit` is called when a connection is accepted.
    pub fn with_pause_limit(&self, pause_limit: impl Fn() -> Duration + Send + Sync + 'static) -> Admission {
        Admission { pause_limit: Some(Arc::new(pause_limit)), ..self.clone() }
    }

    /// The limits of the console.
    pub fn console(timeouts: Timeouts) -> Admission {
        let shared = Arc::new(Semaphore::new(CONSOLE_CONNECTION_LIMIT));
        Admission { shared, per_port: CONSOLE_CONNECTION_LIMIT, timeouts, pause_limit: None }
    }

    /// The timeouts of a connection that is accepted now.
    pub fn timeouts(&self) -> Timeouts {
        match &self.pause_limit {
            Some(pause_limit) => Timeouts { stall: pause_limit().saturating_add(STALL_GRACE), ..self.timeouts },
            None => self.timeouts,
        }
    }

    /// The permits of a port.
    pub(super) fn port_permits(&self) -> PortPermits {
        PortPermits {
            shared: self.shared.clone(),
            per_port: Arc::new(Semaphore::new(self.per_port)),
            limit: self.per_port,
        }
    }
}

impl PortPermits {
    /// Waits until a connection is permitted.
    pub async fn acquire(&self) -> Option<ConnectionPermit> {
        let per_port = self.per_port.clone().acquire_owned().await.ok()?;
        let shared = self.shared.clone().acquire_owned().await.ok()?;
        Some(ConnectionPermit { _per_port: per_port, _shared: shared })
    }

    /// Waits until all permits are released.
    pub async fn all_released(&self) {
        let limit = u32::try_from(self.limit).unwrap_or(u32::MAX);
        drop(self.per_port.acquire_many(limit).await);
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

    fn acquires(permits: &PortPermits) -> bool {
        // An available permit is acquired at the first poll.
        let waker = std::task::Waker::noop();
        let taken = std::pin::pin!(permits.acquire()).poll(&mut std::task::Context::from_waker(waker));
        match taken {
            std::task::Poll::Ready(permit) => {
                std::mem::forget(permit);
                true
            }
            std::task::Poll::Pending => false,
        }
    }

    #[test]
    fn a_flooded_port_leaves_connection_permits_to_other_ports() {
        let admission = Admission::services(1_000_000, 1_024, timeouts());
        let (flooded, other) = (admission.port_permits(), admission.port_permits());
        let mut taken = 0;
        while acquires(&flooded) {
            taken += 1;
        }
        assert_eq!(taken, 256);
        assert!(acquires(&other));
        assert!(acquires(&Admission::console(timeouts()).port_permits()));
    }

    #[test]
    fn the_pause_limit_is_read_when_a_connection_is_accepted() {
        let seconds = Arc::new(std::sync::atomic::AtomicU64::new(1));
        let asked = seconds.clone();
        let pause = move || Duration::from_secs(asked.load(std::sync::atomic::Ordering::Relaxed));
        let admission = Admission::services(10, 1_024, timeouts()).with_pause_limit(pause);
        assert_eq!(admission.timeouts().stall, Duration::from_secs(2));
        seconds.store(7, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(admission.timeouts().stall, Duration::from_secs(8));
    }

    #[test]
    fn all_ports_together_leave_the_reserved_descriptors_free() {
        let admission = Admission::services(10_000, 4_096, timeouts());
        let taken = std::iter::repeat_with(|| admission.port_permits()).take(3).map(|permits| {
            let mut taken = 0;
            while acquires(&permits) {
                taken += 1;
            }
            taken
        });
        assert_eq!(taken.sum::<usize>(), 4_096 - RESERVED_DESCRIPTORS);
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_the_hard_limit() {
        let raised = raise_descriptor_limit();
        let hard = getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |limit| limit as usize);
        assert_eq!(raised, hard);
    }
}

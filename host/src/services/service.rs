//! A service: what stays the same across its generations.
//!
//! A request takes one generation when it starts and keeps it to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::generation::{Generation, Lease};
use super::request_stats::StatsSnapshot;
use crate::config::{Origin, Scheme, ServiceConfig, ServiceName};
use crate::http::coding::EncoderLimit;
use crate::metrics::ServiceMetrics;
use crate::trace::{self, Resource, TraceId};

/// The generations that serve at one moment, read with one atomic load.
#[derive(Clone)]
pub struct Serving {
    /// The generation that serves all requests that the canary does not.
    pub stable: Arc<Generation>,
    /// A candidate that serves a share of the requests.
    pub canary: Option<Canary>,
}

/// A canary.
#[derive(Clone)]
pub struct Canary {
    /// The candidate.
    pub generation: Arc<Generation>,
    /// How many of 10,000 traces it serves.
    pub share: u32,
    /// When the canary started.
    pub began: SystemTime,
    /// The request statistics of the stable version at that time.
    pub before: StatsSnapshot,
}

/// A service: what stays the same across its generations.
pub struct Service {
    /// The name in the manifest.
    pub name: ServiceName,
    /// The Resource of its spans: that of the serving generation.
    pub resource: ArcSwap<Resource>,
    /// Its metrics: those of the serving generation.
    pub metrics: ArcSwap<ServiceMetrics>,
    declared: ArcSwap<ServiceConfig>,
    serving: ArcSwap<Serving>,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    encoders: EncoderLimit,
    removed: AtomicBool,
}

/// The most bytes of incomplete request bodies that a service buffers.
const WAITING_BYTES: usize = 64 << 20;

/// The most responses of a service that are compressed at one time while they are sent.
const MAX_ENCODERS: usize = 128;

/// The buffered bytes of one incomplete request body.
pub struct WaitingBytes {
    service: Arc<Service>,
    bytes: usize,
}

impl WaitingBytes {
    /// Counts more bytes. Returns false if the service then buffers more than its limit.
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        let before = self.service.waiting.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= WAITING_BYTES
    }
}

impl Drop for WaitingBytes {
    fn drop(&mut self) {
        self.service.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request's permit under the service's concurrency limit. Clones share one permit: the exchange has one, and a guest
/// that continues after its response has another.
#[derive(Clone)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] Arc<Place>);

struct Place {
    service: Arc<Service>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.service.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// A service whose first generation is `generation`.
    pub fn new(generation: Arc<Generation>) -> Arc<Service> {
        Arc::new(Service {
            name: generation.config.name.clone(),
            resource: ArcSwap::new(generation.resource.clone()),
            metrics: ArcSwap::new(generation.pool.context().metrics.clone()),
            declared: ArcSwap::from_pointee(generation.config.clone()),
            serving: ArcSwap::from_pointee(Serving { stable: generation, canary: None }),
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            encoders: EncoderLimit::new(MAX_ENCODERS),
            removed: AtomicBool::new(false),
        })
    }

    /// Its configuration in the manifest. The next generation runs under it; the serving one may run under an older
    /// one.
    pub fn declared(&self) -> Arc<ServiceConfig> {
        self.declared.load_full()
    }

    /// Sets its configuration in the manifest.
    pub fn declare(&self, config: ServiceConfig) {
        self.declared.store(Arc::new(config));
    }

    /// The address in the manifest. It is not part of a version: all generations share it.
    pub fn listen(&self) -> SocketAddr {
        self.declared.load().listen
    }

    /// Whether the serving generation runs under the configuration in the manifest.
    pub fn runs_as_declared(&self) -> bool {
        self.serving.load().stable.config.is_same_version_as(&self.declared.load())
    }

    /// The generations that serve now.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Makes `serving` serve from the next request on. Requests in flight keep their generation.
    pub fn publish(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
    }

    /// Leases the generation that serves a trace. The check after taking the lease ensures that a drain that started
    /// after a replacement cannot miss a request that was about to take the lease.
    pub fn lease(&self, trace: TraceId) -> Lease {
        loop {
            let serving = self.serving.load();
            let lease = Lease::new(choose(&serving, trace).clone());
            if Arc::ptr_eq(&serving, &self.serving.load()) {
                return lease;
            }
        }
    }

    /// Takes a permit, unless `limit` requests are in flight.
    pub fn permit(self: &Arc<Self>, limit: usize) -> Option<Permit> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = Place { service: self.clone() };
        (before < limit).then(|| Permit(Arc::new(place)))
    }

    /// Counts the bytes of a request body that is being read.
    pub fn waiting_bytes(self: &Arc<Self>) -> WaitingBytes {
        WaitingBytes { service: self.clone(), bytes: 0 }
    }

    /// The limit on responses that are compressed while they are sent, over all generations.
    pub fn encoders(&self) -> &EncoderLimit {
        &self.encoders
    }

    /// The number of requests in flight, over all generations.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Marks the service as removed from the manifest: it gets no new versions.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
    }

    /// Waits until no request uses the serving generations.
    pub async fn drained(&self) {
        let serving = self.serving();
        serving.stable.drained().await;
        if let Some(canary) = &serving.canary {
            canary.generation.drained().await;
        }
    }

    /// Frees the instances of the serving generations, once no more requests can arrive.
    pub fn close(&self) {
        let serving = self.serving();
        serving.stable.pool.close();
        serving.canary.iter().for_each(|canary| canary.generation.pool.close());
    }

    /// Whether the service was removed from the manifest.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// Whether calls to `origin` are calls to this service. `localhost` and the loopback addresses are equivalent.
    pub fn serves(&self, origin: &Origin) -> bool {
        reaches(origin, self.listen())
    }
}

/// Whether a call to `origin` on this machine reaches `listen`.
fn reaches(origin: &Origin, listen: SocketAddr) -> bool {
    let name = origin.address();
    let address = name.parse::<IpAddr>().ok();
    let same_place = match address {
        Some(address) => address == listen.ip() || (address.is_loopback() && listen.ip().is_unspecified()),
        None => name == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified()),
    };
    same_place && origin.scheme == Scheme::Http && origin.port == listen.port()
}

/// A trace gets the same version every time.
fn choose(serving: &Serving, trace: TraceId) -> &Arc<Generation> {
    let draw = draw(trace);
    match &serving.canary {
        Some(canary) if draw < canary.share => &canary.generation,
        _ => &serving.stable,
    }
}

/// A number from 0 to 9,999 that is the same for a trace on every host.
fn draw(trace: TraceId) -> u32 {
    (trace::trace_hash(trace) % 10_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_traces_is_drawn_whatever_their_ids_look_like() {
        let share = |ids: &mut dyn Iterator<Item = u128>| ids.filter(|id| draw(TraceId::from(*id)) < 1_000).count();
        assert!((800..1_200).contains(&share(&mut (1..=10_000))));
        assert!((800..1_200).contains(&share(&mut (1..=10_000).map(|id| id << 64))));
        assert!((800..1_200).contains(&share(&mut (1..=10_000).map(|id| id << 112 | 7))));
    }
}

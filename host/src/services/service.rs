//! One service: what stays the same while its generations come and go.
//!
//! A request takes a generation once and keeps it to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::generation::{Generation, Lease};
use super::request_stats::StatsSnapshot;
use crate::config::{Origin, Scheme, ServiceConfig, ServiceName};
use crate::metrics::ServiceMetrics;
use crate::trace::{self, Resource, TraceId};

/// What serves for a service at one moment: read with one load of one pointer.
#[derive(Clone)]
pub struct Serving {
    /// The generation that serves everybody whom the canary does not.
    pub stable: Arc<Generation>,
    /// A candidate that serves a share of the requests.
    pub canary: Option<Canary>,
}

/// A candidate on trial.
#[derive(Clone)]
pub struct Canary {
    /// The candidate.
    pub generation: Arc<Generation>,
    /// How many of 10,000 traces it serves.
    pub share: u32,
    /// When the trial began.
    pub began: SystemTime,
    /// How the other version's requests had gone by then.
    pub before: StatsSnapshot,
}

/// One service: what stays the same while its generations come and go.
pub struct Service {
    /// The name in the manifest.
    pub name: ServiceName,
    /// Where its spans say they come from: the source of the generation that serves.
    pub resource: ArcSwap<Resource>,
    /// Its instruments: those of the generation that serves.
    pub metrics: ArcSwap<ServiceMetrics>,
    declared: ArcSwap<ServiceConfig>,
    serving: ArcSwap<Serving>,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    removed: AtomicBool,
}

/// The most bytes of request bodies that a service holds while the rest of them is still on its way.
const WAITING_BYTES: usize = 64 << 20;

/// Bytes of one request's body that wait for the rest of it.
pub struct WaitingBytes {
    service: Arc<Service>,
    bytes: usize,
}

impl WaitingBytes {
    /// Counts more bytes, unless the service then holds more than it may.
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

/// A request's place among those that the service serves at one time. Clones are the same place: the exchange has one, and
/// a guest that may go on after its response.
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
            removed: AtomicBool::new(false),
        })
    }

    /// What the manifest says of it. The next generation runs under it, whatever the one that serves runs under.
    pub fn declared(&self) -> Arc<ServiceConfig> {
        self.declared.load_full()
    }

    /// Notes what the manifest says from now on.
    pub fn declare(&self, config: ServiceConfig) {
        self.declared.store(Arc::new(config));
    }

    /// Where it listens according to the manifest. This is no part of a version: all generations have the same.
    pub fn listen(&self) -> SocketAddr {
        self.declared.load().listen
    }

    /// Whether the generation that serves runs under what the manifest says.
    pub fn runs_as_declared(&self) -> bool {
        self.serving.load().stable.config.is_same_version_as(&self.declared.load())
    }

    /// What serves now.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Makes `serving` what serves from the next request on. Requests that run keep what they have.
    pub fn publish(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
    }

    /// Takes the generation that serves a trace. The hold is taken and then checked again, so that whoever waits for
    /// a generation to drain after replacing it cannot miss a request that was just about to take it.
    pub fn lease(&self, trace: TraceId) -> Lease {
        loop {
            let serving = self.serving.load();
            let lease = Lease::new(choose(&serving, trace).clone());
            if Arc::ptr_eq(&serving, &self.serving.load()) {
                return lease;
            }
        }
    }

    /// Takes a place, unless `limit` requests are being served.
    pub fn permit(self: &Arc<Self>, limit: usize) -> Option<Permit> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = Place { service: self.clone() };
        (before < limit).then(|| Permit(Arc::new(place)))
    }

    /// An account of the bytes of a request body that is still being read.
    pub fn waiting_bytes(self: &Arc<Self>) -> WaitingBytes {
        WaitingBytes { service: self.clone(), bytes: 0 }
    }

    /// Requests that it is serving now, over all generations.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Marks the service as taken out of the manifest: it gets no new version any more.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
    }

    /// Waits until no request holds what serves.
    pub async fn drained(&self) {
        let serving = self.serving();
        serving.stable.drained().await;
        if let Some(canary) = &serving.canary {
            canary.generation.drained().await;
        }
    }

    /// Frees the instances of what serves. Nobody asks it for anything any more.
    pub fn close(&self) {
        let serving = self.serving();
        serving.stable.pool.close();
        serving.canary.iter().for_each(|canary| canary.generation.pool.close());
    }

    /// Whether it was taken out of the manifest.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// Whether calls to `origin` are calls to this service: `localhost` and the loopback addresses are the same place.
    pub fn serves(&self, origin: &Origin) -> bool {
        reaches(origin, self.listen())
    }
}

/// Whether somebody who calls `origin` on this machine gets to `listen`.
fn reaches(origin: &Origin, listen: SocketAddr) -> bool {
    let name = origin.address();
    let address = name.parse::<IpAddr>().ok();
    let same_place = match address {
        Some(address) => address == listen.ip() || (address.is_loopback() && listen.ip().is_unspecified()),
        None => name == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified()),
    };
    same_place && origin.scheme == Scheme::Http && origin.port == listen.port()
}

/// The same trace meets the same version at every try.
fn choose(serving: &Serving, trace: TraceId) -> &Arc<Generation> {
    let draw = draw(trace);
    match &serving.canary {
        Some(canary) if draw < canary.share => &canary.generation,
        _ => &serving.stable,
    }
}

/// A number from 0 to 9,999 that is the same for a trace wherever it is drawn.
fn draw(trace: TraceId) -> u32 {
    (trace::draw(trace) % 10_000) as u32
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

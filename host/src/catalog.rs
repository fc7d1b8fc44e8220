//! The services of the host, and the immutable generations that serve for them.
//!
//! A generation is one version of a component with the configuration that it runs under. It is made, then published by
//! storing one pointer, and never changed. A request takes a generation once and keeps it to its end; the old one lives
//! for as long as requests hold it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::component::{Digest, Pool};
use crate::config::{Origin, Scheme, ServiceConfig, ServiceName};
use crate::metrics::ServiceMetrics;
use crate::routes::{RouteIndex, RouteTable};
use crate::tally::{Snapshot, Tally};
use crate::trace::{self, Attributes, Source, TraceId};

/// One version of a service. Never changed after it is published.
pub struct Generation {
    /// 1 for the version that the host started with; each one published later has the next number.
    pub number: u64,
    /// The configuration that it runs under.
    pub config: ServiceConfig,
    /// Where its spans say they come from.
    pub source: Arc<Source>,
    /// Its instances.
    pub pool: Pool,
    /// When it was made.
    pub created: SystemTime,
    /// How its requests went.
    pub tally: Tally,
    on_server_spans: Vec<Attributes>,
    in_flight: AtomicUsize,
    idle: Notify,
}

impl Generation {
    /// A generation that serves nobody yet. `on_server_spans` is what stands on the server span of every request, first
    /// for those without a route and then route by route.
    pub fn new(
        number: u64,
        config: ServiceConfig,
        source: Arc<Source>,
        pool: Pool,
        on_server_spans: Vec<Attributes>,
    ) -> Arc<Generation> {
        Arc::new(Generation {
            on_server_spans,
            number,
            config,
            source,
            pool,
            created: SystemTime::now(),
            tally: Tally::default(),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
        })
    }

    /// The digest of its component.
    pub fn digest(&self) -> &Digest {
        self.pool.prepared().digest()
    }

    /// Its endpoints.
    pub fn routes(&self) -> &RouteTable {
        self.pool.prepared().routes()
    }

    /// What stands on the server span of every request that this route, or none, matches.
    pub fn on_server_spans(&self, route: Option<RouteIndex>) -> Option<&Attributes> {
        self.on_server_spans.get(route.map_or(0, |route| route as usize + 1))
    }

    /// Requests that it is serving now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Waits until no request holds this generation.
    pub async fn drained(&self) {
        loop {
            let notified = self.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// A request's hold on the generation that serves it. Clones are the same hold.
#[derive(Clone)]
pub struct Lease(Arc<Held>);

struct Held {
    generation: Arc<Generation>,
}

impl Lease {
    fn new(generation: Arc<Generation>) -> Lease {
        generation.in_flight.fetch_add(1, Ordering::SeqCst);
        Lease(Arc::new(Held { generation }))
    }

    /// Another hold on the same generation.
    pub fn another(&self) -> Lease {
        Lease::new(self.0.generation.clone())
    }

    /// The generation that is held.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.0.generation
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.generation.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.generation.idle.notify_waiters();
        }
    }
}

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
    pub before: Snapshot,
}

/// One service: what stays the same while its generations come and go.
pub struct Service {
    /// The name in the manifest.
    pub name: ServiceName,
    /// Where its spans say they come from: the source of the generation that serves.
    pub source: ArcSwap<Source>,
    /// Its instruments: those of the generation that serves.
    pub metrics: ArcSwap<ServiceMetrics>,
    serving: ArcSwap<Serving>,
    in_flight: AtomicUsize,
    removed: AtomicBool,
}

/// A request's place among those that the service serves at one time.
pub struct Permit {
    service: Arc<Service>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.service.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// A service whose first generation is `generation`.
    pub fn new(generation: Arc<Generation>) -> Arc<Service> {
        Arc::new(Service {
            name: generation.config.name.clone(),
            source: ArcSwap::new(generation.source.clone()),
            metrics: ArcSwap::new(generation.pool.environment().metrics.clone()),
            serving: ArcSwap::from_pointee(Serving { stable: generation, canary: None }),
            in_flight: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
        })
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
        let permit = Permit { service: self.clone() };
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        (before < limit).then_some(permit)
    }

    /// Requests that it is serving now, over all generations.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Marks the service as taken out of the manifest: new requests are turned away.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
    }

    /// Whether it was taken out of the manifest.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// Whether calls to `origin` are calls to this service: `localhost` and the loopback addresses are the same place.
    pub fn serves(&self, origin: &Origin) -> bool {
        let serving = self.serving.load();
        reaches(origin, serving.stable.config.listen)
    }
}

/// Whether somebody who calls `origin` on this machine gets to `listen`.
fn reaches(origin: &Origin, listen: SocketAddr) -> bool {
    let name = origin.host.trim_matches(['[', ']']);
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

/// All services of the host. Reading takes no lock.
#[derive(Default)]
pub struct Catalog {
    services: ArcSwap<Vec<Arc<Service>>>,
}

impl Catalog {
    /// The services, in the order of the manifest.
    pub fn services(&self) -> Arc<Vec<Arc<Service>>> {
        self.services.load_full()
    }

    /// The service of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Service>> {
        self.services.load().iter().find(|service| service.name.as_str() == name).cloned()
    }

    /// The service that answers at `origin`.
    pub fn at(&self, origin: &Origin) -> Option<Arc<Service>> {
        self.services.load().iter().find(|service| service.serves(origin)).cloned()
    }

    /// Adds a service.
    pub fn add(&self, service: Arc<Service>) {
        self.services.rcu(|services| {
            let mut services = Vec::clone(services);
            services.push(service.clone());
            services
        });
    }

    /// Forgets a service.
    pub fn remove(&self, name: &ServiceName) {
        self.services
            .rcu(|services| services.iter().filter(|service| service.name != *name).cloned().collect::<Vec<_>>());
    }
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

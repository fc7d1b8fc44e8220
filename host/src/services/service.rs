//! A service: the parts that all its generations share.
//!
//! A request leases one generation when it starts and keeps it to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::generation::{Generation, Lease};
use super::request_stats::StatsSnapshot;
use crate::component::Digest;
use crate::config::{Origin, ServiceConfig, ServiceName};
use crate::http::coding::EncoderLimit;
use crate::metrics::ServiceMetrics;
use crate::trace::{self, Resource, TraceId};

/// The generations that serve now. They are read with one atomic load.
#[derive(Clone)]
pub struct Serving {
    /// The generation that serves all requests that the canary does not serve.
    pub stable: Arc<Generation>,
    /// The canary, while one serves a share of the traces.
    pub canary: Option<Canary>,
}

/// A candidate that serves a share of the traces.
#[derive(Clone)]
pub struct Canary {
    /// The generation of the candidate.
    pub generation: Arc<Generation>,
    /// How many of 10,000 traces the candidate serves.
    pub share: u32,
    /// When the canary started.
    pub began: SystemTime,
    /// The request statistics of the stable version at that time.
    pub before: StatsSnapshot,
}

/// A service: the parts that all its generations share.
pub struct Service {
    /// The name in the manifest.
    pub name: ServiceName,
    /// The digest of its first component.
    pub first_digest: Digest,
    /// The Resource of the serving generation's spans.
    pub resource: ArcSwap<Resource>,
    /// The metrics of the serving generation.
    pub metrics: ArcSwap<ServiceMetrics>,
    declared: ArcSwap<ServiceConfig>,
    serving: ArcSwap<Serving>,
    /// The number of permits in use.
    in_flight: AtomicUsize,
    /// The buffered bytes of incomplete request bodies.
    buffered: AtomicUsize,
    encoders: EncoderLimit,
    removed: AtomicBool,
}

/// The most bytes of incomplete request bodies that a service buffers.
const BUFFERED_BYTES_LIMIT: usize = 64 << 20;

/// The most responses of a service that are compressed at one time while they are sent.
const MAX_ENCODERS: usize = 128;

/// The buffered bytes of one incomplete request body.
pub struct BufferedBytes {
    service: Arc<Service>,
    bytes: usize,
}

impl BufferedBytes {
    /// Counts more bytes. Returns false if the service then buffers more than its limit.
    pub fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        let before = self.service.buffered.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= BUFFERED_BYTES_LIMIT
    }
}

impl Drop for BufferedBytes {
    fn drop(&mut self) {
        self.service.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request's permit under the service's concurrency limit. Clones share one permit: the exchange holds a clone, and a
/// guest that continues after its response holds another.
#[derive(Clone)]
pub struct Permit(Arc<PermitInner>);

struct PermitInner {
    service: Arc<Service>,
}

impl Permit {
    /// The same permit for an owner that only holds it.
    pub fn held(&self) -> Arc<dyn Send + Sync> {
        self.0.clone()
    }
}

impl Drop for PermitInner {
    fn drop(&mut self) {
        self.service.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// A service whose first generation is `generation`.
    pub fn new(generation: Arc<Generation>) -> Arc<Service> {
        Arc::new(Service {
            name: generation.config.name.clone(),
            first_digest: generation.digest().clone(),
            resource: ArcSwap::new(generation.resource.clone()),
            metrics: ArcSwap::new(generation.pool.context().metrics.clone()),
            declared: ArcSwap::from_pointee(generation.config.clone()),
            serving: ArcSwap::from_pointee(Serving { stable: generation, canary: None }),
            in_flight: AtomicUsize::new(0),
            buffered: AtomicUsize::new(0),
            encoders: EncoderLimit::new(MAX_ENCODERS),
            removed: AtomicBool::new(false),
        })
    }

    /// The service's configuration in the manifest. The next generation runs with it. The serving generation may run
    /// with an older configuration.
    pub fn declared(&self) -> Arc<ServiceConfig> {
        self.declared.load_full()
    }

    /// Sets the service's configuration in the manifest.
    pub fn declare(&self, config: ServiceConfig) {
        self.declared.store(Arc::new(config));
    }

    /// The listening address in the manifest. All generations share it.
    pub fn listen(&self) -> SocketAddr {
        self.declared.load().listen
    }

    /// Whether the serving generation runs with the configuration in the manifest.
    pub fn runs_as_declared(&self) -> bool {
        self.serving.load().stable.config.is_same_version_as(&self.declared.load())
    }

    /// The generations that serve now.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Publishes the generations that serve from the next request on. Requests in flight keep their generation.
    pub fn publish(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
    }

    /// Leases the generation that serves a trace. The second load ensures that a drain that starts after a publication
    /// does not miss a request that loaded the previous generations but had not leased one yet.
    pub fn lease(&self, trace: TraceId) -> Lease {
        loop {
            let serving = self.serving.load();
            let lease = Lease::new(choose(&serving, trace).clone());
            if Arc::ptr_eq(&serving, &self.serving.load()) {
                return lease;
            }
        }
    }

    /// A permit for a request, unless `limit` requests are in flight.
    pub fn permit(self: &Arc<Self>, limit: usize) -> Option<Permit> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = PermitInner { service: self.clone() };
        (before < limit).then(|| Permit(Arc::new(permit)))
    }

    /// A counter for the bytes of one request body that is being read.
    pub fn buffered_bytes(self: &Arc<Self>) -> BufferedBytes {
        BufferedBytes { service: self.clone(), bytes: 0 }
    }

    /// The limit on responses that are compressed while they are sent, over all generations.
    pub fn encoders(&self) -> &EncoderLimit {
        &self.encoders
    }

    /// The number of requests in flight in all generations.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Marks the service as removed from the manifest. It gets no new versions.
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

    /// Frees the instances of the serving generations. The caller ensures that no more requests arrive.
    pub fn close(&self) {
        let serving = self.serving();
        serving.stable.pool.close();
        serving.canary.iter().for_each(|canary| canary.generation.pool.close());
    }

    /// Whether the service was removed from the manifest.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// Whether this service listens at `origin`. `localhost` stands for the loopback addresses.
    pub fn serves(&self, origin: &Origin) -> bool {
        origin.reaches(self.listen())
    }
}

/// The generation that serves a trace. All requests of a trace get the same generation.
fn choose(serving: &Serving, trace: TraceId) -> &Arc<Generation> {
    let slot = canary_slot(trace);
    match &serving.canary {
        Some(canary) if slot < canary.share => &canary.generation,
        _ => &serving.stable,
    }
}

/// A number from 0 to 9,999 that depends on the trace id alone, so that every host computes the same.
fn canary_slot(trace: TraceId) -> u32 {
    (trace::trace_hash(trace) % 10_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_gets_its_share_of_traces_for_any_pattern_of_trace_ids() {
        let share =
            |ids: &mut dyn Iterator<Item = u128>| ids.filter(|id| canary_slot(TraceId::from(*id)) < 1_000).count();
        assert!((800..1_200).contains(&share(&mut (1..=10_000))));
        assert!((800..1_200).contains(&share(&mut (1..=10_000).map(|id| id << 64))));
        assert!((800..1_200).contains(&share(&mut (1..=10_000).map(|id| id << 112 | 7))));
    }
}

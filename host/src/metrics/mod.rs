//! The metrics of the host and its services, and how they are read.
//!
//! One [`Metrics`] lives as long as the host. It holds the instruments of the host itself and, for each service, a
//! [`ServiceMetrics`] with that service's Resource. This module starts no thread and no timer: the exporter calls
//! [`Metrics::collect`] at an interval, and the console calls [`Metrics::prometheus`] when it is scraped. Both see the
//! same cumulative values.
//!
//! Recording never blocks on a reader and never allocates once a series exists. The number of series is bounded
//! whatever clients and guests send: values beyond the bound are counted under `_OTHER`. Every metric is documented in
//! `docs/telemetry.md`, and a test checks that the page is complete.

mod client;
mod exemplar;
mod guest;
mod host;
mod labels;
mod operations;
mod process;
mod prometheus;
mod reader;
mod server;
mod service;
mod table;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::ResourceMetrics;

pub use self::{
    client::ClientRequest,
    guest::{InstrumentDescription, InstrumentError, Label, check_guest_metric, is_label},
    host::{CodeCacheStats, PipelineStats},
    prometheus::Exposition,
    server::{ActiveRequestGuard, ServerRequest},
    service::{PoolStats, ServiceMetrics},
};
use self::{host::HostMetrics, process::Process};
use crate::trace::{SeriesExemplars, ServiceSeries};

type ReadGuests = dyn Fn() -> Vec<ServiceSeries> + Send + Sync;

/// All metrics of one host. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    process: Arc<Process>,
    host: HostMetrics,
    /// Reads the metrics of guests' own SDKs.
    guests: OnceLock<Box<ReadGuests>>,
    services: Mutex<BTreeMap<String, Arc<ServiceMetrics>>>,
    /// Metrics that are no longer reported, until their final values have been collected.
    retired: Mutex<Vec<Arc<ServiceMetrics>>>,
}

impl Metrics {
    /// The metrics of a host whose own instruments (process, pipeline) carry the Resource `host_resource`.
    pub fn new(host_resource: Vec<KeyValue>) -> Metrics {
        let process = Arc::new(Process::new());
        let host = HostMetrics::new(host_resource, &process);
        Metrics {
            inner: Arc::new(Inner {
                process,
                host,
                guests: OnceLock::new(),
                services: Mutex::default(),
                retired: Mutex::default(),
            }),
        }
    }

    /// The metrics of the service `name`, created at the first call. They persist across swaps. For another Resource
    /// new ones are created, which are not reported before [`Metrics::report`], so that a rejected version leaves no
    /// series.
    pub fn service(&self, name: &str, resource: Vec<KeyValue>) -> Arc<ServiceMetrics> {
        let mut services = self.services();
        match services.get(name) {
            Some(known) if known.has_resource(&resource) => Arc::clone(known),
            Some(_) => Arc::new(ServiceMetrics::new(name, resource)),
            None => {
                let service = Arc::new(ServiceMetrics::new(name, resource));
                services.insert(name.to_owned(), Arc::clone(&service));
                service
            }
        }
    }

    /// Makes `metrics` the reported ones of the service `name`, and retires those before.
    pub fn report(&self, name: &str, metrics: Arc<ServiceMetrics>) {
        self.retired().retain(|retired| !Arc::ptr_eq(retired, &metrics));
        let before = self.services().insert(name.to_owned(), metrics.clone());
        self.retired().extend(before.filter(|before| !Arc::ptr_eq(before, &metrics)));
    }

    /// Stops reporting a service that is no longer hosted. Requests in flight may still record.
    pub fn remove_service(&self, name: &str) {
        let removed = self.services().remove(name);
        self.retired().extend(removed);
    }

    /// The final values of services, and of versions of services, whose reporting ended since the last call.
    pub fn collect_retired(&self) -> Vec<ResourceMetrics> {
        let retired = std::mem::take(&mut *self.retired());
        retired.iter().filter_map(|service| service.collect()).collect()
    }

    /// Counts a swap or rollback of `service` that ended as `outcome` (such as `swapped`, `refused`). For a service
    /// that is not hosted (its start failed) it is counted under the host itself.
    pub fn count_swap(&self, service: &str, outcome: &'static str) {
        match self.services().get(service) {
            Some(service) => service.count_swap(outcome),
            None => self.inner.host.count_swap(outcome),
        }
    }

    /// A callback that records signal, outcome and duration of each export. It keeps nothing else alive, so the
    /// pipeline, whose values are read here, may own it.
    pub fn exports(&self) -> impl Fn(&'static str, &'static str, Duration) + Send + Sync + use<> {
        self.inner.host.exports()
    }

    /// Reads the span pipeline's values with `read`, once per collection.
    pub fn observe_pipeline(&self, read: impl Fn() -> PipelineStats + Send + Sync + 'static) {
        self.inner.host.observe_pipeline(Arc::new(read));
    }

    /// Reads the metrics of guests' own SDKs with `read`, whenever a page is requested. They are exported elsewhere.
    /// Only the first call has an effect.
    pub fn observe_guests(&self, read: impl Fn() -> Vec<ServiceSeries> + Send + Sync + 'static) {
        let _ = self.inner.guests.set(Box::new(read));
    }

    /// Reads the number of all instances of the host with `read`, once per collection.
    pub fn observe_instances(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.inner.host.observe_instances(Arc::new(read));
    }

    /// Reads the lookups in the cache of compiled code with `read`, once per collection.
    pub fn observe_code_cache(&self, read: impl Fn() -> CodeCacheStats + Send + Sync + 'static) {
        self.inner.host.observe_code_cache(Arc::new(read));
    }

    /// Reads with `read`, once per collection, how often the state store has failed since the start.
    pub fn observe_state_failures(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.inner.host.observe_state_failures(Arc::new(read));
    }

    /// Resident memory of the process in MiB, cached for one second.
    pub fn memory_mb(&self) -> f64 {
        self.inner.process.memory_mb()
    }

    /// Reads every metric: the host's own first, then the services by name. Values are cumulative.
    pub fn collect(&self) -> Vec<ResourceMetrics> {
        let services: Vec<_> = self.services().values().cloned().collect();
        let mut collected = Vec::with_capacity(services.len() + 1);
        collected.extend(self.inner.host.collect());
        collected.extend(services.iter().filter_map(|service| service.collect()));
        collected
    }

    /// The exemplars that were not returned before, to be merged into the data points of the same service, metric and
    /// attributes: the SDK's own data points carry none.
    pub fn exemplars(&self) -> Vec<SeriesExemplars> {
        let services: Vec<_> = self.services().values().cloned().collect();
        services.iter().flat_map(|service| service.take_exemplars()).collect()
    }

    /// All metrics in the Prometheus text format 0.0.4.
    pub fn prometheus(&self) -> String {
        self.exposition(Exposition::Prometheus)
    }

    /// All metrics in `format`. OpenMetrics includes the exemplars.
    pub fn exposition(&self, format: Exposition) -> String {
        let exemplars = match format {
            Exposition::Prometheus => Vec::new(),
            Exposition::OpenMetrics => self.peek_exemplars(),
        };
        let guests = self.inner.guests.get().map(|read| read()).unwrap_or_default();
        prometheus::render(&self.collect(), (&exemplars, &guests), format)
    }

    fn peek_exemplars(&self) -> Vec<SeriesExemplars> {
        let services: Vec<_> = self.services().values().cloned().collect();
        services.iter().flat_map(|service| service.peek_exemplars()).collect()
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, Arc<ServiceMetrics>>> {
        self.inner.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<ServiceMetrics>>> {
        self.inner.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

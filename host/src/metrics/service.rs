//! The metrics of one service, reported under its Resource. They persist across its generations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Meter},
};
use opentelemetry_sdk::metrics::data::ResourceMetrics;

use super::{
    client::{ClientMetrics, ClientRequest},
    exemplar::Reservoir,
    guest::{GuestMetrics, InstrumentDescription, InstrumentError, Label},
    operations::OperationMetrics,
    reader::ResourceReader,
    server::{self, ActiveRequestGuard, ServerMetrics, ServerRequest},
};
use crate::trace::{MetricExemplar, SeriesExemplars};

/// Upper bounds in seconds for the wait for an instance: from zero to the longest request timeouts.
const WAIT_BUCKETS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// The current state of the serving generation's pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// The number of the serving generation.
    pub generation: u64,
    /// Instances, busy or idle.
    pub live: u64,
    /// Idle instances.
    pub idle: u64,
    /// Linear memory of all live instances in total, in bytes.
    pub memory_bytes: u64,
    /// The peak linear memory of a single instance, in bytes.
    pub memory_high_water_bytes: u64,
}

type ReadPool = dyn Fn() -> PoolStats + Send + Sync;

/// The instruments of one service.
pub struct ServiceMetrics {
    name: String,
    resource: Vec<KeyValue>,
    server: ServerMetrics,
    client: ClientMetrics,
    operations: OperationMetrics,
    guest: GuestMetrics,
    rejected: Counter<u64>,
    swaps: Counter<u64>,
    instantiations: BoundCounter<u64>,
    pool_wait: BoundHistogram<f64>,
    observed: Arc<Observed>,
    /// The number of the current collection period, from 1, by which exemplars are recognised as new.
    period: AtomicU64,
    reader: ResourceReader,
}

/// Values that are read at collection, not recorded. Shared with the SDK's callbacks.
#[derive(Default)]
struct Observed {
    pool: ArcSwapOption<Box<ReadPool>>,
}

impl ServiceMetrics {
    pub(super) fn new(name: &str, resource: Vec<KeyValue>) -> ServiceMetrics {
        let reader = ResourceReader::new(resource.clone());
        let meter = reader.meter();
        let observed = Arc::new(Observed::default());
        observe(&meter, &observed);
        ServiceMetrics {
            name: name.to_owned(),
            resource,
            server: ServerMetrics::new(&meter),
            client: ClientMetrics::new(&meter),
            operations: OperationMetrics::new(&meter),
            guest: GuestMetrics::new(reader.meter_of(name)),
            rejected: meter
                .u64_counter("spandrel.requests.rejected")
                .with_unit("{request}")
                .with_description("Requests rejected before they reached the component.")
                .build(),
            swaps: swaps(&meter),
            instantiations: meter
                .u64_counter("spandrel.instantiations")
                .with_unit("{instance}")
                .with_description("Instances created of the component.")
                .build()
                .bind(&[]),
            pool_wait: meter
                .f64_histogram("spandrel.pool.wait.duration")
                .with_unit("s")
                .with_description("Time that requests waited for an instance.")
                .with_boundaries(WAIT_BUCKETS.to_vec())
                .build()
                .bind(&[]),
            observed,
            period: AtomicU64::new(1),
            reader,
        }
    }

    /// Counts a request as active until the returned guard is dropped. `scheme` is `http` or `https`.
    pub fn start_server_request(&self, method: &http::Method, scheme: &'static str) -> ActiveRequestGuard {
        self.server.start(method, scheme)
    }

    /// Records a request that was answered or cancelled.
    pub fn record_server_request(&self, request: &ServerRequest<'_>) {
        self.server.record(self.period.load(Ordering::Relaxed), request);
    }

    /// Records a request that the service made.
    pub fn record_client_request(&self, request: &ClientRequest<'_>) {
        self.client.record(request);
    }

    /// Records a guest span that carries `custom.operation_type`.
    pub fn record_operation(&self, operation_type: &str, span_name: &str, took: Duration, failed: bool) {
        self.operations.record(operation_type, span_name, took, failed);
    }

    /// The id of a counter that the component creates.
    ///
    /// # Errors
    /// If the name is invalid, or there are too many instruments.
    pub fn guest_counter(&self, description: &InstrumentDescription<'_>) -> Result<u32, InstrumentError> {
        self.guest.counter(description)
    }

    /// The id of a histogram that the component creates.
    ///
    /// # Errors
    /// As for [`ServiceMetrics::guest_counter`], and if the boundaries are invalid.
    pub fn guest_histogram(
        &self,
        description: &InstrumentDescription<'_>,
        boundaries: &[f64],
    ) -> Result<u32, InstrumentError> {
        self.guest.histogram(description, boundaries)
    }

    /// Adds to a counter of the component.
    pub fn guest_add(&self, counter: u32, value: u64, labels: &[Label<'_>]) {
        self.guest.add(counter, value, labels);
    }

    /// Records a value of a histogram of the component.
    pub fn guest_record(&self, histogram: u32, value: f64, labels: &[Label<'_>]) {
        self.guest.record(histogram, value, labels);
    }

    /// Counts a request that was rejected for `reason` (such as `concurrency_limit`).
    pub fn count_rejected(&self, reason: &'static str) {
        self.rejected.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// Counts a new instance of the component.
    pub fn count_instantiation(&self) {
        self.instantiations.add(1);
    }

    /// Records how long a request waited for an instance; zero if one was idle.
    pub fn record_pool_wait(&self, waited: Duration) {
        self.pool_wait.record(waited.as_secs_f64());
    }

    /// Reads the pool's state with `read` at each collection. A later call replaces an earlier one. `read` must not own
    /// anything that owns these metrics, or neither is ever freed.
    pub fn observe_pool(&self, read: impl Fn() -> PoolStats + Send + Sync + 'static) {
        self.observed.pool.store(Some(Arc::new(Box::new(read))));
    }

    pub(super) fn count_swap(&self, outcome: &'static str) {
        self.swaps.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    pub(super) fn has_resource(&self, resource: &[KeyValue]) -> bool {
        self.resource == resource
    }

    pub(super) fn collect(&self) -> Option<ResourceMetrics> {
        self.period.fetch_add(1, Ordering::Relaxed);
        self.reader.collect()
    }

    pub(super) fn take_exemplars(&self) -> Vec<SeriesExemplars> {
        self.exemplars(Reservoir::take)
    }

    pub(super) fn peek_exemplars(&self) -> Vec<SeriesExemplars> {
        self.exemplars(Reservoir::peek)
    }

    fn exemplars(&self, read: impl Fn(&Reservoir) -> Vec<MetricExemplar>) -> Vec<SeriesExemplars> {
        self.server
            .exemplars(read)
            .into_iter()
            .map(|(attributes, exemplars)| SeriesExemplars {
                service: self.name.clone(),
                metric: server::DURATION,
                attributes,
                exemplars,
            })
            .collect()
    }
}

/// The counter of swaps. The host has one too, for services that never started.
pub(super) fn swaps(meter: &Meter) -> Counter<u64> {
    meter
        .u64_counter("spandrel.component.swaps")
        .with_unit("{swap}")
        .with_description("Swaps and rollbacks of the component, by outcome.")
        .build()
}

fn observe(meter: &Meter, observed: &Arc<Observed>) {
    let gauge = |name: &'static str, unit: &'static str, description: &'static str, figure: fn(&PoolStats) -> u64| {
        let observed = Arc::clone(observed);
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(read) = observed.pool.load().as_ref() {
                    gauge.observe(figure(&read()), &[]);
                }
            })
            .build();
    };
    gauge("spandrel.instances.live", "{instance}", "Existing instances of the component.", |pool| pool.live);
    gauge("spandrel.instances.idle", "{instance}", "Idle instances of the component.", |pool| pool.idle);
    gauge("spandrel.component.generation", "{generation}", "The generation that serves new requests.", |pool| {
        pool.generation
    });
    gauge("spandrel.component.memory.usage", "By", "Linear memory of all live instances in total.", |pool| {
        pool.memory_bytes
    });
    gauge("spandrel.component.memory.high_water", "By", "The peak linear memory of a single instance.", |pool| {
        pool.memory_high_water_bytes
    });
}

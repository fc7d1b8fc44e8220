//! The host's own metrics: process, span pipeline, exports.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};
use opentelemetry_sdk::metrics::data::ResourceMetrics;

use super::{process::Process, reader::ResourceReader, service};

/// Counters and gauges of the span pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipelineStats {
    /// Spans in the queue.
    pub queue_length: u64,
    /// The capacity of the queue.
    pub queue_capacity: u64,
    /// Spans that the collector has accepted since the start.
    pub exported: u64,
    /// Spans lost since the start, by reason. The set of reasons is fixed.
    pub dropped: Vec<(&'static str, u64)>,
    /// Log records that the collector has accepted since the start.
    pub exported_logs: u64,
    /// Log records lost since the start, by reason.
    pub dropped_logs: Vec<(&'static str, u64)>,
}

/// Lookups of compiled code in the cache since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeCacheStats {
    /// The cache had it.
    pub hits: u64,
    /// The cache did not have it, and the host compiled the component.
    pub misses: u64,
}

/// An export takes a millisecond within one machine, and at most its timeout, ten seconds by default.
const EXPORT_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

type ReadPipeline = dyn Fn() -> PipelineStats + Send + Sync;
type ReadCodeCache = dyn Fn() -> CodeCacheStats + Send + Sync;
type ReadNumber = dyn Fn() -> u64 + Send + Sync;

#[derive(Default)]
struct Observed {
    pipeline: ArcSwapOption<Arc<ReadPipeline>>,
    instances: ArcSwapOption<Arc<ReadNumber>>,
    code_cache: ArcSwapOption<Arc<ReadCodeCache>>,
    state_failures: ArcSwapOption<Arc<ReadNumber>>,
}

impl Observed {
    fn read(&self) -> Option<PipelineStats> {
        self.pipeline.load().as_ref().map(|read| read())
    }
}

pub(super) struct HostMetrics {
    swaps: Counter<u64>,
    exports: Histogram<f64>,
    observed: Arc<Observed>,
    reader: ResourceReader,
}

impl HostMetrics {
    pub(super) fn new(resource: Vec<KeyValue>, process: &Arc<Process>) -> HostMetrics {
        let reader = ResourceReader::new(resource);
        let meter = reader.meter();
        let observed = Arc::new(Observed::default());
        process.observe(&meter);
        observe_queue(&meter, &observed);
        observe_records(&meter, &observed);
        observe_instances(&meter, &observed);
        observe_code_cache(&meter, &observed);
        observe_state_failures(&meter, &observed);
        HostMetrics { swaps: service::swaps(&meter), exports: exports(&meter), observed, reader }
    }

    pub(super) fn count_swap(&self, outcome: &'static str) {
        self.swaps.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    pub(super) fn exports(&self) -> impl Fn(&'static str, &'static str, Duration) + Send + Sync + use<> {
        let exports = self.exports.clone();
        move |signal, outcome, took| {
            let labels = [KeyValue::new("outcome", outcome), KeyValue::new("signal", signal)];
            exports.record(took.as_secs_f64(), &labels);
        }
    }

    pub(super) fn observe_pipeline(&self, read: Arc<ReadPipeline>) {
        self.observed.pipeline.store(Some(Arc::new(read)));
    }

    pub(super) fn observe_state_failures(&self, read: Arc<ReadNumber>) {
        self.observed.state_failures.store(Some(Arc::new(read)));
    }

    pub(super) fn observe_instances(&self, read: Arc<ReadNumber>) {
        self.observed.instances.store(Some(Arc::new(read)));
    }

    pub(super) fn observe_code_cache(&self, read: Arc<ReadCodeCache>) {
        self.observed.code_cache.store(Some(Arc::new(read)));
    }

    pub(super) fn collect(&self) -> Option<ResourceMetrics> {
        self.reader.collect()
    }
}

fn observe_queue(meter: &Meter, observed: &Arc<Observed>) {
    let gauge = |name: &'static str, description: &'static str, figure: fn(&PipelineStats) -> u64| {
        let observed = Arc::clone(observed);
        meter
            .u64_observable_gauge(name)
            .with_unit("{span}")
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(stats) = observed.read() {
                    gauge.observe(figure(&stats), &[]);
                }
            })
            .build();
    };
    gauge("spandrel.trace.queue.length", "Spans in the export queue.", |stats| stats.queue_length);
    gauge("spandrel.trace.queue.capacity", "The capacity of the export queue.", |stats| stats.queue_capacity);
}

/// How to read the counters of one kind of record.
struct RecordCounters {
    exported: fn(&PipelineStats) -> u64,
    dropped: fn(PipelineStats) -> Vec<(&'static str, u64)>,
}

fn observe_records(meter: &Meter, observed: &Arc<Observed>) {
    let spans = RecordCounters { exported: |stats| stats.exported, dropped: |stats| stats.dropped };
    observe_record(meter, observed, ["spandrel.trace.spans.exported", "spandrel.trace.spans.dropped", "{span}"], spans);
    let logs = RecordCounters { exported: |stats| stats.exported_logs, dropped: |stats| stats.dropped_logs };
    let names = ["spandrel.log_records.exported", "spandrel.log_records.dropped", "{log_record}"];
    observe_record(meter, observed, names, logs);
}

fn observe_record(meter: &Meter, observed: &Arc<Observed>, names: [&'static str; 3], counters: RecordCounters) {
    let [exported, dropped, unit] = names;
    let source = Arc::clone(observed);
    meter
        .u64_observable_counter(exported)
        .with_unit(unit)
        .with_description("Records that the collector has accepted.")
        .with_callback(move |counter| {
            if let Some(stats) = source.read() {
                counter.observe((counters.exported)(&stats), &[]);
            }
        })
        .build();
    let source = Arc::clone(observed);
    meter
        .u64_observable_counter(dropped)
        .with_unit(unit)
        .with_description("Records that were dropped, by reason.")
        .with_callback(move |counter| {
            for (reason, count) in (counters.dropped)(source.read().unwrap_or_default()) {
                counter.observe(count, &[KeyValue::new("reason", reason)]);
            }
        })
        .build();
}

fn observe_instances(meter: &Meter, observed: &Arc<Observed>) {
    let observed = Arc::clone(observed);
    meter
        .u64_observable_gauge("spandrel.host.instances")
        .with_unit("{instance}")
        .with_description("Instances of all components, including those of generations that no longer serve.")
        .with_callback(move |gauge| {
            if let Some(read) = observed.instances.load().as_ref() {
                gauge.observe(read(), &[]);
            }
        })
        .build();
}

fn observe_code_cache(meter: &Meter, observed: &Arc<Observed>) {
    let seen = Arc::clone(observed);
    meter
        .u64_observable_counter("spandrel.code_cache.lookups")
        .with_unit("{lookup}")
        .with_description("Lookups of compiled components in the cache folder.")
        .with_callback(move |counter| {
            if let Some(read) = seen.code_cache.load().as_ref() {
                let CodeCacheStats { hits, misses } = read();
                counter.observe(hits, &[KeyValue::new("outcome", "hit")]);
                counter.observe(misses, &[KeyValue::new("outcome", "miss")]);
            }
        })
        .build();
}

fn observe_state_failures(meter: &Meter, observed: &Arc<Observed>) {
    let observed = Arc::clone(observed);
    meter
        .u64_observable_counter("spandrel.state.failures")
        .with_unit("{failure}")
        .with_description("Failures of the disk that stores the state of services.")
        .with_callback(move |counter| {
            if let Some(read) = observed.state_failures.load().as_ref() {
                counter.observe(read(), &[]);
            }
        })
        .build();
}

fn exports(meter: &Meter) -> Histogram<f64> {
    meter
        .f64_histogram("spandrel.export.duration")
        .with_unit("s")
        .with_description("How long exports to the collector took, by signal and outcome.")
        .with_boundaries(EXPORT_BUCKETS.to_vec())
        .build()
}

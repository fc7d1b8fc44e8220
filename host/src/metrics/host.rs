//! The host's own metrics: the process, the span pipeline, exports.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};
use opentelemetry_sdk::metrics::data::ResourceMetrics;

use super::{process::Process, service, source::Source};

/// What the span pipeline has done and holds, in plain numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipelineStats {
    /// Spans in the queue.
    pub queue_length: u64,
    /// The most spans that the queue takes.
    pub queue_capacity: u64,
    /// Spans that the collector has accepted since the start.
    pub exported: u64,
    /// Spans lost since the start, by reason. Each reason is one of a fixed few.
    pub dropped: Vec<(&'static str, u64)>,
    /// Exports since the start, by signal and outcome.
    pub exports: Vec<ExportStats>,
}

/// Exports of one signal that ended in one way, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ExportStats {
    /// `traces`, `metrics` or `logs`.
    pub signal: &'static str,
    /// How they ended: one of a fixed few.
    pub outcome: &'static str,
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub took: Duration,
}

type ReadPipeline = dyn Fn() -> PipelineStats + Send + Sync;
type ReadInstances = dyn Fn() -> u64 + Send + Sync;

#[derive(Default)]
struct Observed {
    pipeline: ArcSwapOption<Arc<ReadPipeline>>,
    instances: ArcSwapOption<Arc<ReadInstances>>,
}

impl Observed {
    fn read(&self) -> Option<PipelineStats> {
        self.pipeline.load().as_ref().map(|read| read())
    }
}

pub(super) struct HostMetrics {
    swaps: Counter<u64>,
    observed: Arc<Observed>,
    source: Source,
}

impl HostMetrics {
    pub(super) fn new(resource: Vec<KeyValue>, process: &Arc<Process>) -> HostMetrics {
        let source = Source::new(resource);
        let meter = source.meter();
        let observed = Arc::new(Observed::default());
        process.observe(&meter);
        observe_queue(&meter, &observed);
        observe_spans(&meter, &observed);
        observe_exports(&meter, &observed);
        observe_instances(&meter, &observed);
        HostMetrics { swaps: service::swaps(&meter), observed, source }
    }

    pub(super) fn swapped(&self, outcome: &'static str) {
        self.swaps.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    pub(super) fn observe_pipeline(&self, read: Arc<ReadPipeline>) {
        self.observed.pipeline.store(Some(Arc::new(read)));
    }

    pub(super) fn observe_instances(&self, read: Arc<ReadInstances>) {
        self.observed.instances.store(Some(Arc::new(read)));
    }

    pub(super) fn collect(&self) -> Option<ResourceMetrics> {
        self.source.collect()
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
    gauge("spandrel.trace.queue.length", "Spans that wait to be exported.", |stats| stats.queue_length);
    gauge("spandrel.trace.queue.capacity", "The most spans that the queue takes.", |stats| stats.queue_capacity);
}

fn observe_spans(meter: &Meter, observed: &Arc<Observed>) {
    let seen = Arc::clone(observed);
    meter
        .u64_observable_counter("spandrel.trace.spans.exported")
        .with_unit("{span}")
        .with_description("Spans that the collector has accepted.")
        .with_callback(move |counter| {
            if let Some(stats) = seen.read() {
                counter.observe(stats.exported, &[]);
            }
        })
        .build();
    let seen = Arc::clone(observed);
    meter
        .u64_observable_counter("spandrel.trace.spans.dropped")
        .with_unit("{span}")
        .with_description("Spans lost, by reason.")
        .with_callback(move |counter| {
            for (reason, spans) in seen.read().unwrap_or_default().dropped {
                counter.observe(spans, &[KeyValue::new("reason", reason)]);
            }
        })
        .build();
}

fn observe_exports(meter: &Meter, observed: &Arc<Observed>) {
    let seen = Arc::clone(observed);
    meter
        .u64_observable_counter("spandrel.exports")
        .with_unit("{export}")
        .with_description("Exports to the collector, by signal and outcome.")
        .with_callback(move |counter| {
            for export in seen.read().unwrap_or_default().exports {
                counter.observe(export.count, &export.labels());
            }
        })
        .build();
    let seen = Arc::clone(observed);
    meter
        .f64_observable_counter("spandrel.export.time")
        .with_unit("s")
        .with_description("Time that exports took together, by signal and outcome.")
        .with_callback(move |counter| {
            for export in seen.read().unwrap_or_default().exports {
                counter.observe(export.took.as_secs_f64(), &export.labels());
            }
        })
        .build();
}

fn observe_instances(meter: &Meter, observed: &Arc<Observed>) {
    let seen = Arc::clone(observed);
    meter
        .u64_observable_gauge("spandrel.host.instances")
        .with_unit("{instance}")
        .with_description("Instances of all components, those of generations that no longer serve included.")
        .with_callback(move |gauge| {
            if let Some(read) = seen.instances.load().as_ref() {
                gauge.observe(read(), &[]);
            }
        })
        .build();
}

impl ExportStats {
    fn labels(&self) -> [KeyValue; 2] {
        [KeyValue::new("outcome", self.outcome), KeyValue::new("signal", self.signal)]
    }
}

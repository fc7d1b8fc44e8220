//! One Resource and the instruments that report under it, read on demand.
//!
//! It is the SDK's meter provider with a reader that has no thread and no exporter.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    metrics::{Meter, MeterProvider},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality, data::ResourceMetrics,
        reader::MetricReader,
    },
};

/// Upper bounds in seconds of the buckets that the semantic conventions specify for HTTP durations.
pub(super) const HTTP_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

pub(super) struct ResourceReader {
    provider: SdkMeterProvider,
    reader: OnDemand,
}

impl ResourceReader {
    pub(super) fn new(resource: Vec<KeyValue>) -> ResourceReader {
        let reader = OnDemand(Arc::new(ManualReader::default()));
        let provider = SdkMeterProvider::builder()
            .with_resource(Resource::builder_empty().with_attributes(resource).build())
            .with_reader(reader.clone())
            .build();
        ResourceReader { provider, reader }
    }

    pub(super) fn meter(&self) -> Meter {
        let scope = InstrumentationScope::builder("spandrel").with_version(env!("CARGO_PKG_VERSION")).build();
        self.provider.meter_with_scope(scope)
    }

    /// The meter of the instrumentation scope `scope`.
    pub(super) fn meter_of(&self, scope: &str) -> Meter {
        self.provider.meter_with_scope(InstrumentationScope::builder(scope.to_owned()).build())
    }

    /// All current values; `None` only if the SDK has been shut down, which the host never does.
    pub(super) fn collect(&self) -> Option<ResourceMetrics> {
        let mut metrics = ResourceMetrics::default();
        self.reader.collect(&mut metrics).ok().map(|()| metrics)
    }
}

/// A shared handle to the reader: the provider owns its reader, and the host reads from outside.
#[derive(Clone, Debug)]
struct OnDemand(Arc<ManualReader>);

impl MetricReader for OnDemand {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

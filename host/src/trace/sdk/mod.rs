//! The providers of the OpenTelemetry SDK, for what the host itself does: spans and log records that `tracing` makes.
//!
//! They follow the same settings as the pipeline of requests and show their traces to the same readers within the process.
//! The host does little compared to its guests, so the SDK's queues and threads serve it as they serve any Rust program.

mod local;
mod outlet;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource as SdkResource;
use opentelemetry_sdk::logs::{self, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::trace::{self as spans, BatchSpanProcessor, SdkTracer, SdkTracerProvider};

use self::local::LocalTraces;
use self::outlet::{Outlet, Phase, Progress};
use super::counters::{Counters, SignalKind};
use super::otlp::{SCHEMA, TransportError, Tries, log_exporter, span_exporter};
use super::pipeline::Pipeline;
use super::resource::Resource;
use super::settings::{Exporter, RootSampler, Settings, Signal};

/// The SDK's threads look at their queues this often at most, whatever the settings say: they would do nothing else.
const SHORTEST_DELAY: Duration = Duration::from_millis(20);

/// How long it may take to count what was lost at the end.
const SETTLED: Duration = Duration::from_millis(100);

/// The providers. What they still hold is given up when this is dropped.
pub struct SdkProviders {
    spans: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    progress: Progress,
}

impl SdkProviders {
    /// Starts what the settings of `pipeline` ask for, in the name of `resource`. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// Where OTLP cannot be spoken as the settings say.
    pub fn start(pipeline: &Pipeline, resource: &Arc<Resource>) -> Result<SdkProviders, TransportError> {
        let (settings, counters) = (pipeline.settings(), pipeline.counters());
        let progress = Progress::default();
        let local = LocalTraces::new(pipeline, resource);
        let own = of_sdk(resource);
        let spans = pipeline
            .is_enabled()
            .then(|| tracer_provider(settings, &local, &own, (&progress, counters)))
            .transpose()?;
        let logs =
            (!settings.disabled).then(|| logger_provider(settings, &local, own, (&progress, counters))).transpose()?;
        Ok(SdkProviders { spans, logs, progress })
    }

    /// What makes spans, if anybody reads them.
    pub fn tracer(&self) -> Option<SdkTracer> {
        let scope = InstrumentationScope::builder("spandrel").with_version(env!("CARGO_PKG_VERSION"));
        let scope = scope.with_schema_url(SCHEMA).build();
        self.spans.as_ref().map(|provider| provider.tracer_with_scope(scope))
    }

    /// What takes log records, if anybody reads them.
    pub fn logger_provider(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref()
    }

    /// Sends what waits, within `limit`. What does not get out is lost.
    pub async fn shutdown(&self, limit: Duration) {
        self.progress.reach(Phase::Stops);
        let (spans, logs) = (self.spans.clone(), self.logs.clone());
        let ended = tokio::task::spawn_blocking(move || {
            std::thread::scope(|scope| {
                scope.spawn(|| spans.map(|provider| provider.shutdown_with_timeout(limit)));
                logs.map(|provider| provider.shutdown_with_timeout(limit));
            });
        });
        let _ = tokio::time::timeout(limit, ended).await;
        self.progress.reach(Phase::Gone);
        // What is lost now is counted before the last metrics leave.
        let _ = tokio::time::timeout(SETTLED, self.progress.settled()).await;
    }
}

impl Drop for SdkProviders {
    fn drop(&mut self) {
        self.progress.reach(Phase::Gone);
    }
}

fn of_sdk(resource: &Resource) -> SdkResource {
    SdkResource::builder_empty().with_schema_url(resource.attributes().to_vec(), SCHEMA).build()
}

fn is_sent(signal: &Signal) -> bool {
    signal.exporters.contains(&Exporter::Otlp)
}

fn tracer_provider(
    settings: &Settings,
    local: &LocalTraces,
    resource: &SdkResource,
    counted: (&Progress, &Arc<Counters>),
) -> Result<SdkTracerProvider, TransportError> {
    let mut builder = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(sampler(settings))
        // What guests may record is limited, what the host says of itself is not.
        .with_span_limits(spans::SpanLimits::default())
        .with_span_processor(local.clone());
    if is_sent(&settings.traces) {
        let make = |tries| span_exporter(&settings.traces.otlp, tries);
        let outlet = Outlet::new(SignalKind::Traces, (make(Tries::Several)?, make(Tries::One)?), counted);
        let config = spans::BatchConfigBuilder::default()
            .with_max_queue_size(settings.batch.queue_size)
            .with_max_export_batch_size(settings.batch.export_size)
            .with_scheduled_delay(settings.batch.delay.max(SHORTEST_DELAY))
            .build();
        builder = builder.with_span_processor(BatchSpanProcessor::builder(outlet).with_batch_config(config).build());
    }
    Ok(builder.build())
}

fn logger_provider(
    settings: &Settings,
    local: &LocalTraces,
    resource: SdkResource,
    counted: (&Progress, &Arc<Counters>),
) -> Result<SdkLoggerProvider, TransportError> {
    let mut builder = SdkLoggerProvider::builder().with_resource(resource).with_log_processor(local.clone());
    if is_sent(&settings.logs) {
        let make = |tries| log_exporter(&settings.logs.otlp, tries);
        let outlet = Outlet::new(SignalKind::Logs, (make(Tries::Several)?, make(Tries::One)?), counted);
        let config = logs::BatchConfigBuilder::default()
            .with_max_queue_size(settings.log_batch.queue_size)
            .with_max_export_batch_size(settings.log_batch.export_size)
            .with_scheduled_delay(settings.log_batch.delay.max(SHORTEST_DELAY))
            .build();
        builder = builder.with_log_processor(BatchLogProcessor::builder(outlet).with_batch_config(config).build());
    }
    Ok(builder.build())
}

/// What the host does is the root of its traces: nobody samples for it, and its steps follow it.
fn sampler(settings: &Settings) -> spans::Sampler {
    let root = match settings.sampler.root {
        RootSampler::AlwaysOn => spans::Sampler::AlwaysOn,
        RootSampler::AlwaysOff => spans::Sampler::AlwaysOff,
        RootSampler::Ratio(ratio) => spans::Sampler::TraceIdRatioBased(ratio),
    };
    spans::Sampler::ParentBased(Box::new(root))
}

//! The providers of the OpenTelemetry SDK for the host's own operations: spans and log records created with `tracing`.
//!
//! They use the settings of the pipeline and hand their traces to the same readers within the process. The host records
//! little compared with its guests, so the SDK's queues and threads suffice.

mod local;
mod runtime_exporter;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource as SdkResource;
use opentelemetry_sdk::logs::{self, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::trace::{self as spans, BatchSpanProcessor, SdkTracer, SdkTracerProvider};

use self::local::LocalTraces;
use self::runtime_exporter::{HostPhase, Lifecycle, RuntimeExporter};
use super::counters::{Counters, SignalKind};
use super::otlp::{RetryMode, SCHEMA_URL, TransportError, log_exporter, span_exporter};
use super::pipeline::Pipeline;
use super::resource::Resource;
use super::settings::{Exporter, RootSampler, Settings, Signal};

/// The most queued spans of the host's own operations. The SDK allocates the whole queue at the start, and a larger one
/// in the settings is meant for the spans of requests.
const MAX_QUEUED_SPANS: usize = 2048;
/// The lower limit of the SDK's scheduled delay: with a shorter one its threads would only poll their queues.
const MIN_SCHEDULED_DELAY: Duration = Duration::from_millis(20);

/// The timeout for counting the records that are dropped at the end.
const FINAL_COUNT_TIMEOUT: Duration = Duration::from_millis(100);

/// The providers. Records that are not exported when this is dropped are lost.
pub struct SdkProviders {
    spans: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    lifecycle: Lifecycle,
}

impl SdkProviders {
    /// Starts the providers that the settings of `pipeline` select, with this Resource. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// If the settings of an OTLP exporter are invalid.
    pub fn start(pipeline: &Pipeline, resource: &Arc<Resource>) -> Result<SdkProviders, TransportError> {
        let (settings, counters) = (pipeline.settings(), pipeline.counters());
        let lifecycle = Lifecycle::default();
        let local = LocalTraces::new(pipeline, resource);
        let own = sdk_resource(resource);
        let spans = pipeline
            .is_enabled()
            .then(|| tracer_provider(settings, &local, &own, (&lifecycle, counters)))
            .transpose()?;
        let logs =
            (!settings.disabled).then(|| logger_provider(settings, &local, own, (&lifecycle, counters))).transpose()?;
        Ok(SdkProviders { spans, logs, lifecycle })
    }

    /// The tracer, if spans have any reader.
    pub fn tracer(&self) -> Option<SdkTracer> {
        let scope = InstrumentationScope::builder("spandrel").with_version(env!("CARGO_PKG_VERSION"));
        let scope = scope.with_schema_url(SCHEMA_URL).build();
        self.spans.as_ref().map(|provider| provider.tracer_with_scope(scope))
    }

    /// The logger provider, if telemetry is not disabled.
    pub fn logger_provider(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref()
    }

    /// Exports the queued records within `limit`. The rest is lost.
    pub async fn shutdown(&self, limit: Duration) {
        self.lifecycle.enter(HostPhase::Stopping);
        let (spans, logs) = (self.spans.clone(), self.logs.clone());
        let ended = tokio::task::spawn_blocking(move || {
            std::thread::scope(|scope| {
                scope.spawn(|| spans.map(|provider| provider.shutdown_with_timeout(limit)));
                logs.map(|provider| provider.shutdown_with_timeout(limit));
            });
        });
        let _ = tokio::time::timeout(limit, ended).await;
        self.lifecycle.enter(HostPhase::Stopped);
        // Records dropped now are counted before the last export of metrics.
        let _ = tokio::time::timeout(FINAL_COUNT_TIMEOUT, self.lifecycle.exports_ended()).await;
    }
}

impl Drop for SdkProviders {
    fn drop(&mut self) {
        self.lifecycle.enter(HostPhase::Stopped);
    }
}

fn sdk_resource(resource: &Resource) -> SdkResource {
    SdkResource::builder_empty().with_schema_url(resource.attributes().to_vec(), SCHEMA_URL).build()
}

fn is_exported(signal: &Signal) -> bool {
    signal.exporters.contains(&Exporter::Otlp)
}

fn tracer_provider(
    settings: &Settings,
    local: &LocalTraces,
    resource: &SdkResource,
    context: (&Lifecycle, &Arc<Counters>),
) -> Result<SdkTracerProvider, TransportError> {
    let mut builder = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(sampler(settings))
        // The configured span limits apply to guests only.
        .with_span_limits(spans::SpanLimits::default())
        .with_span_processor(local.clone());
    if is_exported(&settings.traces) {
        let exporter = |retry_mode| span_exporter(&settings.traces.otlp, retry_mode);
        let exporter = RuntimeExporter::new(
            SignalKind::Traces,
            (exporter(RetryMode::Recommended)?, exporter(RetryMode::Disabled)?),
            context,
        );
        let config = spans::BatchConfigBuilder::default()
            .with_max_queue_size(settings.batch.queue_size.min(MAX_QUEUED_SPANS))
            .with_max_export_batch_size(settings.batch.export_size)
            .with_scheduled_delay(settings.batch.delay.max(MIN_SCHEDULED_DELAY))
            .build();
        builder = builder.with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(config).build());
    }
    Ok(builder.build())
}

fn logger_provider(
    settings: &Settings,
    local: &LocalTraces,
    resource: SdkResource,
    context: (&Lifecycle, &Arc<Counters>),
) -> Result<SdkLoggerProvider, TransportError> {
    let mut builder = SdkLoggerProvider::builder().with_resource(resource).with_log_processor(local.clone());
    if is_exported(&settings.logs) {
        let exporter = |retry_mode| log_exporter(&settings.logs.otlp, retry_mode);
        let exporter = RuntimeExporter::new(
            SignalKind::Logs,
            (exporter(RetryMode::Recommended)?, exporter(RetryMode::Disabled)?),
            context,
        );
        let config = logs::BatchConfigBuilder::default()
            .with_max_queue_size(settings.log_batch.queue_size)
            .with_max_export_batch_size(settings.log_batch.export_size)
            .with_scheduled_delay(settings.log_batch.delay.max(MIN_SCHEDULED_DELAY))
            .build();
        builder = builder.with_log_processor(BatchLogProcessor::builder(exporter).with_batch_config(config).build());
    }
    Ok(builder.build())
}

/// The host's operations are roots: they have no remote parent, and their steps follow the decision for the root.
fn sampler(settings: &Settings) -> spans::Sampler {
    let root = match settings.sampler.root {
        RootSampler::AlwaysOn => spans::Sampler::AlwaysOn,
        RootSampler::AlwaysOff => spans::Sampler::AlwaysOff,
        RootSampler::Ratio(ratio) => spans::Sampler::TraceIdRatioBased(ratio),
    };
    spans::Sampler::ParentBased(Box::new(root))
}

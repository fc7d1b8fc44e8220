//! The telemetry of the host's own operations: start, reload, swap, watch and shutdown, as traces and log records.
//!
//! An `Operation` is a root span, a `Step` a child span of it. Both are `tracing` spans of a subscriber that belongs to
//! one host and exports through the OpenTelemetry SDK; it is never the subscriber of log lines. Log lines are events of
//! the process's subscriber. [`LogExport`] is a layer of that one, and exports them with the trace id and span id of
//! their operation.

mod log_export;
mod operation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;

pub use self::log_export::LogExport;
pub(crate) use self::operation::{Operation, Step};
use crate::trace::{Pipeline, Resource, SdkProviders, TransportError};

/// The `service.name` of the host.
pub(crate) const SERVICE: &str = "spandrel";

/// The telemetry of one host's operations. Clones share it.
#[derive(Clone)]
pub struct HostTelemetry {
    inner: Arc<Inner>,
}

struct Inner {
    providers: SdkProviders,
    /// The subscriber of spans.
    spans: Dispatch,
    /// The subscriber of events if the process has none.
    events: Dispatch,
}

impl HostTelemetry {
    /// Starts the telemetry with the settings of `pipeline` and this Resource, and connects `logs` to it.
    ///
    /// # Errors
    ///
    /// If the settings of an OTLP exporter are invalid.
    pub fn start(
        pipeline: &Pipeline,
        resource: &Arc<Resource>,
        logs: &LogExport,
    ) -> Result<HostTelemetry, TransportError> {
        let providers = SdkProviders::start(pipeline, resource)?;
        let spans = providers.tracer().map_or_else(Dispatch::none, |tracer| {
            let layer = tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_target(false)
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false);
            Dispatch::new(Registry::default().with(host_spans()).with(layer))
        });
        let events = providers.logger_provider().map_or_else(Dispatch::none, |provider| {
            logs.connect(provider);
            let own = LogExport::default();
            own.connect(provider);
            Dispatch::new(Registry::default().with(LevelFilter::INFO).with(own))
        });
        Ok(HostTelemetry { inner: Arc::new(Inner { providers, spans, events }) })
    }

    /// Exports the queued records within `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        self.inner.providers.shutdown(limit).await;
    }

    /// Calls `act` with the subscriber of spans as the current one.
    fn with_span_subscriber<T>(&self, act: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.inner.spans, act)
    }

    /// Calls `log`, which logs. Its events become log records even if the process has no subscriber.
    fn log(&self, log: impl FnOnce()) {
        if tracing::dispatcher::get_default(|default| default.is::<NoSubscriber>()) {
            tracing::dispatcher::with_default(&self.inner.events, log);
        } else {
            log();
        }
    }
}

/// Limits the subscriber to spans of the host. Filtered callsites cost nothing.
fn host_spans() -> FilterFn {
    let is_own: fn(&Metadata<'_>) -> bool =
        |metadata| metadata.is_span() && metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
    FilterFn::new(is_own).with_max_level_hint(LevelFilter::INFO)
}

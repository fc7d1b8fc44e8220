//! What the host does by itself, as traces and log records of its own: start, reload, swap, watch, shutdown.
//!
//! An `Operation` is the root span of one such thing, a `Step` a part of it. Both are `tracing` spans of a subscriber that
//! belongs to one host and goes to the OpenTelemetry SDK; whoever logs does not meet it. Log lines are events of the process's
//! own subscriber, which [`LogExport`] is a layer of: it sends them on with the ids of the operation that they belong to.

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

/// The `service.name` of the host itself.
pub(crate) const SERVICE: &str = "spandrel";

/// The telemetry of one host about itself. A clone is a handle to the same.
#[derive(Clone)]
pub struct HostTelemetry {
    inner: Arc<Inner>,
}

struct Inner {
    providers: SdkProviders,
    /// Takes the spans.
    spans: Dispatch,
    /// Takes events where the process has nobody who does.
    events: Dispatch,
}

impl HostTelemetry {
    /// Starts it as the settings of `pipeline` say, in the name of `resource`. From now on `logs` sends what it is told.
    ///
    /// # Errors
    ///
    /// Where OTLP cannot be spoken as the settings say.
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
            Dispatch::new(Registry::default().with(own_spans()).with(layer))
        });
        let events = providers.logger_provider().map_or_else(Dispatch::none, |provider| {
            logs.connect(provider);
            let own = LogExport::default();
            own.connect(provider);
            Dispatch::new(Registry::default().with(LevelFilter::INFO).with(own))
        });
        Ok(HostTelemetry { inner: Arc::new(Inner { providers, spans, events }) })
    }

    /// Sends what waits, within `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        self.inner.providers.shutdown(limit).await;
    }

    /// Does something with the subscriber of spans as the current one.
    fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.inner.spans, act)
    }

    /// Logs something. In a process that has no log of its own it is a log record all the same.
    fn log(&self, log: impl FnOnce()) {
        if tracing::dispatcher::get_default(|default| default.is::<NoSubscriber>()) {
            tracing::dispatcher::with_default(&self.inner.events, log);
        } else {
            log();
        }
    }
}

/// The subscriber of spans hears of nothing else: what it does not ask for costs nothing where it happens.
fn own_spans() -> FilterFn {
    let is_own: fn(&Metadata<'_>) -> bool =
        |metadata| metadata.is_span() && metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
    FilterFn::new(is_own).with_max_level_hint(LevelFilter::INFO)
}

//! The `tracing` layer that exports the host's log lines as log records, in addition to their other outputs.
//!
//! Lines of other crates are not exported, and neither are those of the exporters, which would report their own
//! failures through themselves.

use std::sync::{Arc, OnceLock};

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

type Bridge = OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>;

/// The layer. Clones share their connection, so it can be connected after the subscriber was installed: logging starts
/// before the settings of the log exporter are known.
#[derive(Clone, Default)]
pub struct LogExport {
    bridge: Arc<OnceLock<Bridge>>,
}

impl LogExport {
    /// Exports all later lines to `provider`. Only the first call has an effect.
    pub(super) fn connect(&self, provider: &SdkLoggerProvider) {
        let _ = self.bridge.set(OpenTelemetryTracingBridge::new(provider));
    }
}

impl<S> Layer<S> for LogExport
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if let Some(bridge) = self.bridge.get().filter(|_| is_exported(event.metadata())) {
            bridge.on_event(event, context);
        }
    }
}

/// Whether a line is exported.
fn is_exported(line: &Metadata<'_>) -> bool {
    /// The modules of the exporters.
    const EXPORTER_MODULES: [&str; 2] =
        [concat!(env!("CARGO_CRATE_NAME"), "::trace::otlp"), concat!(env!("CARGO_CRATE_NAME"), "::trace::sdk")];
    let within =
        |module: &str| line.target().strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    within(env!("CARGO_CRATE_NAME")) && !EXPORTER_MODULES.into_iter().any(within)
}

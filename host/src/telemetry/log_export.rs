//! The layer that sends the host's log lines to the collector, beside whatever else is done with them.
//!
//! Lines of other crates are not sent, and neither is what the exporters say: it is about the way that it would have to take.

use std::sync::{Arc, OnceLock};

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

type Bridge = OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>;

/// The layer. A clone is the same one, so that it can be connected after the subscriber was installed: the log begins
/// before it is known where log records go.
#[derive(Clone, Default)]
pub struct LogExport {
    bridge: Arc<OnceLock<Bridge>>,
}

impl LogExport {
    /// Sends what comes from now on to `provider`. The first one stays.
    pub(super) fn connect(&self, provider: &SdkLoggerProvider) {
        let _ = self.bridge.set(OpenTelemetryTracingBridge::new(provider));
    }
}

impl<S> Layer<S> for LogExport
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if let Some(bridge) = self.bridge.get().filter(|_| is_sent(event.metadata())) {
            bridge.on_event(event, context);
        }
    }
}

/// Whether a line is sent.
fn is_sent(line: &Metadata<'_>) -> bool {
    /// The modules that send.
    const SENDERS: [&str; 2] =
        [concat!(env!("CARGO_CRATE_NAME"), "::trace::otlp"), concat!(env!("CARGO_CRATE_NAME"), "::trace::sdk")];
    let within =
        |module: &str| line.target().strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    within(env!("CARGO_CRATE_NAME")) && !SENDERS.into_iter().any(within)
}

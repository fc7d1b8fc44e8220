//! What a collector said to a request, and what is said to it in every request.

use std::error::Error;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;

use crate::trace::counters::SignalKind;

/// What a collector said to one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It took everything but so many items.
    Accepted {
        /// Items that it did not take.
        rejected: u64,
        /// Why not, if it said so.
        message: String,
    },
    /// Not now; perhaps after this pause.
    Retry {
        /// The pause that it asked for.
        after: Option<Duration>,
        /// What went wrong.
        reason: String,
        /// Whether nothing listens at the collector's address.
        is_silent: bool,
    },
    /// Never.
    Refused(String),
}

impl Verdict {
    /// The answers for metrics and log records have the same shape as this one.
    pub fn accepted(answer: ExportTraceServiceResponse) -> Verdict {
        let part = answer.partial_success.unwrap_or_default();
        Verdict::Accepted { rejected: part.rejected_spans.max(0) as u64, message: part.error_message }
    }
}

/// One value for each signal.
pub(super) struct Signals<T> {
    pub traces: T,
    pub metrics: T,
    pub logs: T,
}

impl<T> Signals<T> {
    pub fn of(self, signal: SignalKind) -> T {
        match signal {
            SignalKind::Traces => self.traces,
            SignalKind::Metrics => self.metrics,
            SignalKind::Logs => self.logs,
        }
    }
}

/// The value of `User-Agent`, as the specification of OTLP exporters asks for it.
pub(super) fn user_agent() -> String {
    format!("OTel-OTLP-Exporter-Spandrel/{}", env!("CARGO_PKG_VERSION"))
}

/// Whether an error says that nothing listens at an address.
pub(super) fn is_silence(error: &(dyn Error + 'static)) -> bool {
    let is_refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(is_refused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What is at the bottom of an error: "connection refused" says more than "error sending request".
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

//! The result of an export request, and helpers for all transports.

use std::error::Error;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;

/// The result of one export request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExportResult {
    /// The collector accepted the request, possibly in part.
    Accepted {
        /// The number of rejected items (partial success).
        rejected: u64,
        /// The collector's message; a warning if nothing was rejected.
        message: String,
    },
    /// The export failed and can be retried.
    Retry {
        /// The delay that the collector requested.
        after: Option<Duration>,
        /// The reason.
        reason: String,
        /// Whether nothing listens at the collector's address.
        connection_refused: bool,
    },
    /// The collector rejected the request permanently, for this reason.
    Rejected(String),
}

impl ExportResult {
    /// The result for a response. Responses for metrics and log records have the same structure.
    pub fn accepted(response: ExportTraceServiceResponse) -> ExportResult {
        let part = response.partial_success.unwrap_or_default();
        ExportResult::Accepted { rejected: part.rejected_spans.max(0) as u64, message: part.error_message }
    }
}

/// The value of `User-Agent`, as the specification of OTLP exporters requires.
pub(super) fn user_agent() -> String {
    format!("OTel-OTLP-Exporter-Spandrel/{}", env!("CARGO_PKG_VERSION"))
}

/// Whether the cause of an error is a refused connection.
pub(super) fn is_connection_refused(error: &(dyn Error + 'static)) -> bool {
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

/// The root cause of an error: "connection refused" is more useful than "error sending request".
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

//! Interprets a collector's responses, for all transports.

use bytes::Buf;
use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;

use super::export_result::ExportResult;
use super::retry::parse_retry_after;

/// The most bytes of a response that are read. A longer one is not a response to an export.
pub(super) const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Decodes the response to an accepted request. If it cannot be decoded, everything counts as accepted, with a warning.
/// Responses for all signals have the same structure.
pub(super) fn decode(response: impl Buf) -> ExportTraceServiceResponse {
    ExportTraceServiceResponse::decode(response).unwrap_or_else(|_| unreadable())
}

/// The substitute for a response that cannot be decoded.
pub(super) fn unreadable() -> ExportTraceServiceResponse {
    let error_message = "the response is not valid OTLP: is this the right endpoint?".to_owned();
    ExportTraceServiceResponse { partial_success: Some(ExportTracePartialSuccess { rejected_spans: 0, error_message }) }
}

/// The result for an HTTP status that is not a success, with the retryable ones that the OTLP specification lists.
/// `message` is the body's message.
pub(super) fn from_http_status(status: StatusCode, headers: &HeaderMap, message: &str) -> ExportResult {
    let is_retryable = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let after = || headers.get(header::RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?));
    if is_retryable {
        ExportResult::Retry { after: after(), reason: status.to_string(), connection_refused: false }
    } else {
        ExportResult::Rejected(format!("{status} {message}").trim_end().to_owned())
    }
}

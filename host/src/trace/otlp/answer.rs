//! What a collector's answer means, whichever way it came.

use bytes::Buf;
use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;

use super::retry::retry_after;
use super::verdict::Verdict;

/// The longest answer that is read, in bytes: what is longer is no answer to an export.
pub(super) const LONGEST: usize = 4 << 20;

/// What an answer says of an export that was taken. One that cannot be read says nothing of a part that was rejected, so
/// everything was taken; that it is odd is passed on as a warning. The answers for all signals have the same shape.
pub(super) fn read(answer: impl Buf) -> ExportTraceServiceResponse {
    ExportTraceServiceResponse::decode(answer).unwrap_or_else(|_| unreadable())
}

/// What stands for an answer that cannot be read.
pub(super) fn unreadable() -> ExportTraceServiceResponse {
    let error_message = "it said so in words that are not OTLP's: is this the right endpoint?".to_owned();
    ExportTraceServiceResponse { partial_success: Some(ExportTracePartialSuccess { rejected_spans: 0, error_message }) }
}

/// What an HTTP status that is no success means, as the OTLP specification lists those to try again. `complaint` is what
/// the collector said besides.
pub(super) fn failed(status: StatusCode, headers: &HeaderMap, complaint: &str) -> Verdict {
    let again = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let asked = || headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    if again {
        Verdict::Retry { after: asked(), reason: status.to_string(), is_silent: false }
    } else {
        Verdict::Refused(format!("{status} {complaint}").trim_end().to_owned())
    }
}

//! The span of a probe: a request by the host to a version that is not published yet.

use http::StatusCode;

use crate::component::Failure;
use crate::trace::Recorder;

/// Records the result of the probe on the span. A probe without a successful response sets the span status to error,
/// with the reason.
pub(super) fn record_result(recorder: &mut Recorder, result: &Result<StatusCode, Failure>) {
    let span = recorder.server();
    match result {
        Ok(status) => {
            recorder.set(span, "http.response.status_code", i64::from(status.as_u16()));
            // An error status that the guest has set says more than the status code.
            if !status.is_success() && !recorder.has_failed(span) {
                recorder.fail(span, status.as_str(), format!("answered {status}"));
            }
        }
        Err(Failure::Trapped(exception)) => {
            exception.record(recorder);
            recorder.fail(span, exception.error_type(), exception.message.clone());
        }
        Err(failure) => recorder.fail(span, failure.error_type(), failure.to_string()),
    }
}

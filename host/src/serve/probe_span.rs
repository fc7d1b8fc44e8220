//! The span of a probe: a request of the host's own to a version that serves nobody yet.

use http::StatusCode;

use crate::component::Failure;
use crate::trace::Recorder;

/// Puts on the span how the probe was answered. One that was not answered well has failed, and says why.
pub(super) fn answered(recorder: &mut Recorder, answer: &Result<StatusCode, Failure>) {
    let span = recorder.server();
    match answer {
        Ok(status) => {
            recorder.set(span, "http.response.status_code", i64::from(status.as_u16()));
            // What the guest itself says of its failure says more than the status.
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

//! The end of a request in an instance that serves several.

use crate::component::failure::Failure;
use crate::component::guest_output::OutputLines;
use crate::hostfn::guest_request::HttpGuestRequest;

/// Records the end of the instance's work on a request, as far as it is known.
pub(super) fn record_end(request: &HttpGuestRequest, failure: Option<&Failure>) {
    let printed = request.execution.close_output().map(|(stdout, stderr)| OutputLines::take_last(stdout, stderr));
    request.recorder.with(|recorder| printed.into_iter().for_each(|printed| printed.log(recorder)));
    request.execution.end(failure.cloned(), &request.recorder);
}

//! A request for an instance that serves several, as the instance and as its requester see it.

use std::sync::Arc;

use http::Request;
use tokio::sync::oneshot;

use crate::component::guest::standard::GuestExecution;
use crate::component::guest::standard::call::{HandlerResponse, Held, HttpInvocation};
use crate::hostfn::guest_request::HttpGuestRequest;
use crate::http::Body;
use crate::trace::SharedRecorder;

/// A request for the instance.
pub(in crate::component) struct Job {
    pub(super) request: Box<Request<Body>>,
    pub(super) active: HttpGuestRequest,
    pub(super) answer: oneshot::Sender<HandlerResponse>,
}

/// The requester's side of a job.
pub(in crate::component) struct PendingResponse {
    pub(super) answered: oneshot::Receiver<HandlerResponse>,
    pub(super) execution: Arc<GuestExecution>,
    pub(super) permit: Held,
    pub(super) lease: Held,
}

impl Job {
    /// The part of a request for the instance, and the part for the requester.
    pub fn new(invocation: HttpInvocation) -> (Job, PendingResponse) {
        let HttpInvocation { request, recorder, locals, permit, lease } = invocation;
        let execution = Arc::new(GuestExecution::default());
        let active = HttpGuestRequest { recorder, locals, execution: execution.clone() };
        let (answer, answered) = oneshot::channel();
        let job = Job { request, active, answer };
        (job, PendingResponse { answered, execution, permit, lease })
    }

    /// The request's spans.
    pub fn recorder(&self) -> &SharedRecorder {
        &self.active.recorder
    }
}

//! A call of a guest: the request that goes in, and the reply or failure that comes back with its spans and cost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::cost::Cost;
use super::failure::Failure;
use crate::http::Body;
use crate::http::routes::RouteIndex;
use crate::outbound::LocalCalls;
use crate::trace::Recorder;

/// A request on its way into a guest.
pub struct Invocation {
    /// The route that matched.
    pub route: RouteIndex,
    /// Its parameters.
    pub params: Vec<String>,
    /// The query string without its `?`.
    pub query: Option<String>,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// What goes with the request.
    pub active: GuestRequest,
}

/// What goes with a request while a guest serves it.
pub struct GuestRequest {
    /// The request's spans.
    pub recorder: Recorder,
    /// The services of this host that the guest may call without a socket.
    pub locals: Arc<dyn LocalCalls>,
    /// Time spent in other services on the guest's behalf, which is not its own cost.
    pub call_time: Duration,
}

/// A guest's answer, checked to be HTTP.
pub struct Reply {
    /// From 200 to 599.
    pub status: StatusCode,
    /// Without the fields that belong to a connection.
    pub headers: HeaderMap,
    /// At most `response_body` bytes.
    pub body: Body,
}

/// The end of a call.
pub struct InvocationOutcome {
    /// The answer or what went wrong.
    pub result: Result<Reply, Failure>,
    /// The request's spans, some of them perhaps still open.
    pub recorder: Recorder,
    /// What it cost.
    pub cost: Cost,
}

impl InvocationOutcome {
    pub(super) fn without_instance(invocation: Invocation, failure: Failure) -> InvocationOutcome {
        InvocationOutcome { result: Err(failure), recorder: invocation.active.recorder, cost: Cost::default() }
    }
}

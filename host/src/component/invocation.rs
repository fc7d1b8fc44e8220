//! A call of a guest: its request, and its response or failure with spans and cost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::cost::Cost;
use super::failure::Failure;
use super::guest_output::OutputLines;
use crate::http::Body;
use crate::http::routes::RouteIndex;
use crate::outbound::LocalCalls;
use crate::trace::Recorder;

/// A request for a lean guest.
pub struct Invocation {
    /// The matched route.
    pub route: RouteIndex,
    /// The route's parameters.
    pub params: Vec<String>,
    /// The query string without its `?`.
    pub query: Option<String>,
    /// The header fields.
    pub headers: HeaderMap,
    /// The complete body.
    pub body: Bytes,
    /// The state of the request, used by host functions.
    pub active: GuestRequest,
}

/// The state of a request while a lean guest serves it.
pub struct GuestRequest {
    /// The request's spans.
    pub recorder: Recorder,
    /// The services of this host, which the guest calls without a socket.
    pub locals: Arc<dyn LocalCalls>,
    /// Time spent in the guest's outgoing calls, which is not part of its cost.
    pub call_time: Duration,
}

/// A guest's response, validated as HTTP.
pub struct Reply {
    /// From 200 to 599.
    pub status: StatusCode,
    /// Without hop-by-hop fields.
    pub headers: HeaderMap,
    /// At most `response_body` bytes.
    pub body: Body,
}

/// The outcome of a call.
pub struct InvocationOutcome {
    /// The response, or why there is none.
    pub result: Result<Reply, Failure>,
    /// The request's spans, some of which may still be open.
    pub recorder: Recorder,
    /// The request's cost.
    pub cost: Cost,
}

impl InvocationOutcome {
    pub(super) fn without_instance(invocation: Invocation, failure: Failure, output: OutputLines) -> InvocationOutcome {
        let mut recorder = invocation.active.recorder;
        output.log(&mut recorder);
        InvocationOutcome { result: Err(failure), recorder, cost: Cost::default() }
    }
}

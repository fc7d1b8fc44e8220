//! Requests to standard components. The component routes requests itself. The manifest's routes only name server spans.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, StatusCode, Version};

use super::exchange::Exchange;
use super::inbound_request::{InboundRequest, body_rejection};
use super::probe_span;
use super::rejection::Rejection;
use crate::component::{Failure, HttpInvocation, HttpOutcome, Reply, StandardPool};
use crate::http::{Body, BodyFailure};
use crate::outbound::LocalCalls;
use crate::services::Generation;
use crate::trace::{Abort, Incoming, Recorder, SharedRecorder};

/// Calls the component. The bodies of the request and of the response are streamed.
pub(super) async fn call(
    (generation, instances): (&Generation, &StandardPool),
    inbound: Box<InboundRequest>,
    locals: Arc<dyn LocalCalls>,
    exchange: &mut Exchange,
) -> Result<Reply, Rejection> {
    let limits = &generation.config.limits;
    let permit = exchange.take_permit(limits.concurrency)?;
    let mut request = inbound.into_request(generation.config.listen, limits)?;
    let (body, body_failure) = BodyFailure::observe(std::mem::take(request.body_mut()));
    *request.body_mut() = body;
    exchange.request_body = body_failure.clone();
    let recorder = exchange.take_recorder();
    // An OpenTelemetry SDK in the guest reads the parent context from the header fields.
    let (server, baggage) = (recorder.context_of(recorder.server()), recorder.baggage());
    generation.pool.context().outbound.propagators().inject(&server, Some(baggage), request.headers_mut());
    let recorder = SharedRecorder::new(recorder);
    // A guest that continues after its response keeps its permit and its generation.
    let (permit, lease) = (permit.held(), exchange.lease().held());
    let invocation = HttpInvocation { request, recorder: recorder.clone(), locals, permit, lease };
    exchange.guest_started();
    let HttpOutcome { result, execution } = instances.handle(invocation).await;
    exchange.guest_stopped();
    exchange.standard = Some((recorder, execution));
    result.map_err(|failure| match body_failure.as_ref().and_then(BodyFailure::get) {
        // Few guests expect that the body of a request fails.
        Some(error) if !matches!(failure, Failure::Saturated(_)) => body_rejection(error.clone(), limits),
        _ => Rejection::Failed(failure),
    })
}

/// Sends `GET path` to a component that is not published yet, and returns the status of the response.
pub(super) async fn probe(
    (generation, instances): (&Generation, &StandardPool),
    recorder: Recorder,
    path: &str,
    locals: Arc<dyn LocalCalls>,
) -> Result<StatusCode, Failure> {
    let Ok(uri) = path.parse() else { return Ok(StatusCode::NOT_FOUND) };
    let (method, version, headers) = (Method::GET, Version::HTTP_11, HeaderMap::new());
    let (body, incoming, network) = (Body::empty(), Incoming::default(), None);
    let inbound = Box::new(InboundRequest { method, uri, version, headers, body, incoming, network });
    let limits = &generation.config.limits;
    let Ok(request) = inbound.into_request(generation.config.listen, limits) else {
        return Ok(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let recorder = SharedRecorder::new(recorder);
    let (permit, lease) = (Arc::new(()), Arc::new(()));
    let invocation = HttpInvocation { request, recorder: recorder.clone(), locals, permit, lease };
    let HttpOutcome { result, .. } = instances.handle(invocation).await;
    let status = result.map(|reply| reply.status);
    recorder.with(|recorder| probe_span::record_result(recorder, &status));
    let abort = status.as_ref().err().and_then(Failure::open_span_error);
    recorder.end(Instant::now(), abort.map(|(kind, message)| Abort { kind, message }));
    status
}

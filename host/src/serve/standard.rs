//! Requests to standard components. The component routes requests itself; the manifest's routes only name them.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Version};

use super::arrival::Arrival;
use super::exchange::Exchange;
use super::probe_span;
use super::rejection::Rejection;
use crate::component::{Failure, HttpInvocation, HttpOutcome, Reply, StandardPool};
use crate::http::Body;
use crate::outbound::LocalCalls;
use crate::services::{Generation, Service};
use crate::trace::{Abort, Recorder, SharedRecorder};

/// Calls the component. Both bodies are streamed.
pub(super) async fn answer(
    service: &Arc<Service>,
    (generation, instances): (&Generation, &StandardPool),
    arrival: Arrival,
    locals: Arc<dyn LocalCalls>,
    exchange: &mut Exchange,
) -> Result<Reply, Rejection> {
    let limits = &generation.config.limits;
    let permit = service.permit(limits.concurrency).ok_or(Rejection::Busy)?;
    exchange.permit = Some(permit.clone());
    let mut request = arrival.into_request(generation.config.listen, limits)?;
    let recorder = std::mem::replace(&mut exchange.recorder, Recorder::detached());
    // The guest's own SDK reads the parent context from the headers, as in a call over the network.
    let (server, baggage) = (recorder.context_of(recorder.server()), recorder.baggage());
    generation.pool.context().outbound.propagators().inject(&server, Some(baggage), request.headers_mut());
    let recorder = SharedRecorder::new(recorder);
    // A guest that continues after its response keeps its permit and its generation.
    let (permit, lease) = (Box::new(permit), Box::new(exchange.lease().clone()));
    let invocation = HttpInvocation { request, recorder: recorder.clone(), locals, permit, lease };
    exchange.guest_begins();
    let HttpOutcome { result, execution } = instances.handle(invocation).await;
    exchange.guest_ends();
    exchange.standard = Some((recorder, execution));
    result.map_err(Rejection::Failed)
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
    let arrival = Arrival { method, uri, version, headers, body: Body::empty(), connection: None };
    let limits = &generation.config.limits;
    let Ok(request) = arrival.into_request(generation.config.listen, limits) else {
        return Ok(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let recorder = SharedRecorder::new(recorder);
    let (permit, lease) = (Box::new(()), Box::new(()));
    let invocation = HttpInvocation { request, recorder: recorder.clone(), locals, permit, lease };
    let HttpOutcome { result, .. } = instances.handle(invocation).await;
    let answer = result.map(|reply| reply.status);
    recorder.with(|recorder| probe_span::answered(recorder, &answer));
    let abort = answer.as_ref().err().and_then(Failure::open_span_error);
    recorder.end(abort.map(|(kind, message)| Abort { kind, message }));
    answer
}

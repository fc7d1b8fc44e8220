//! The life of one request at one service, whether it came over the network or from a service of the same host.
//!
//! Trace context in, a generation taken, a route found, the body read, the guest called, the answer checked, the spans
//! handed over. Everything that can refuse a request on the way does so with a [`Rejection`].

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming as HyperBody;

use crate::catalog::{Catalog, Generation, Lease, Service};
use crate::component::{ActiveRequest, Cost, Failure, Handled, Invocation, Reply};
use crate::config::ServiceName;
use crate::error::Rejection;
use crate::metadata;
use crate::metrics::Served;
use crate::outbound::{Call, HOP_BUDGET, HOPS, LocalCalls};
use crate::routes::{Match, RouteIndex};
use crate::semconv;
use crate::trace::{Attributes, Incoming, Pipeline, Recorder, SpanId, SpanKind, TraceId};

/// A request as it arrives at a service.
pub struct Arrival {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The protocol's version.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// What follows them.
    pub body: Body,
    /// What spans say of the connection; none for a service of the same host.
    pub connection: Option<Arc<Attributes>>,
}

/// A request's body: already here, or still on its way.
pub enum Body {
    /// From a service of the same host.
    Whole(Bytes),
    /// From the network.
    Stream(HyperBody),
}

/// Serves requests from the catalog.
pub struct Dispatcher {
    catalog: Arc<Catalog>,
    pipeline: Pipeline,
}

/// What a request and the calls that it causes on this host have in common.
#[derive(Clone)]
struct Chain {
    dispatcher: Arc<Dispatcher>,
    /// The generation of each service that the request has met: it meets no other.
    pins: Arc<Mutex<Vec<(ServiceName, Lease)>>>,
    hops: u32,
}

/// What the life of a request needs at every step. One that is dropped before it has ended is a request whose caller
/// went away; it is counted as that.
struct Exchange {
    service: Arc<Service>,
    lease: Lease,
    method: Method,
    /// None for a call within the host, which no protocol carries.
    version: Option<Version>,
    began: Instant,
    recorder: Recorder,
    route: Option<RouteIndex>,
    cost: Option<Cost>,
    has_ended: bool,
}

impl Dispatcher {
    /// A dispatcher for the services of `catalog`.
    pub fn new(catalog: Arc<Catalog>, pipeline: Pipeline) -> Arc<Dispatcher> {
        Arc::new(Dispatcher { catalog, pipeline })
    }

    /// Serves a request from the network.
    pub async fn serve(self: &Arc<Self>, service: &Arc<Service>, arrival: Arrival) -> Response<Bytes> {
        let incoming = self.pipeline.propagators().extract(&arrival.headers);
        let hops = arrival.headers.get(HOPS).and_then(|hops| hops.to_str().ok()?.parse().ok()).unwrap_or(0_u32);
        let chain = Chain { dispatcher: self.clone(), pins: Arc::default(), hops: hops.saturating_add(1) };
        chain.serve(service, arrival, incoming).await
    }

    /// Asks a generation that serves nobody yet for `GET path`, and tells the status of its answer.
    pub async fn probe(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        recorder: Recorder,
        path: &str,
    ) -> Result<StatusCode, Failure> {
        let Match::Found { index: route, params } = generation.routes().find(&Method::GET, path) else {
            return Ok(StatusCode::NOT_FOUND);
        };
        let chain = Chain { dispatcher: self.clone(), pins: Arc::default(), hops: 1 };
        let active = ActiveRequest { recorder, locals: Arc::new(chain), elsewhere: Duration::ZERO };
        let (query, headers, body) = (None, HeaderMap::new(), Bytes::new());
        let invocation = Invocation { route, params, query, headers, body, active };
        let Handled { result, recorder, .. } = generation.pool.handle(invocation).await;
        recorder.finish(None);
        result.map(|reply| reply.status)
    }
}

impl LocalCalls for Chain {
    fn call(&self, call: Call) -> Result<BoxFuture<'static, Response<Bytes>>, Call> {
        let Some(service) = self.dispatcher.catalog.at(&call.origin) else { return Err(call) };
        let chain = Chain { hops: self.hops + 1, ..self.clone() };
        let incoming = Incoming { parent: Some(call.context), baggage: call.baggage, denied: false };
        let arrival = Arrival {
            method: call.method,
            uri: call.uri,
            version: Version::HTTP_11,
            headers: call.headers,
            body: Body::Whole(call.body),
            connection: None,
        };
        Ok(Box::pin(async move { chain.serve(&service, arrival, incoming).await }))
    }

    fn hops(&self) -> u32 {
        self.hops
    }
}

impl Chain {
    async fn serve(self, service: &Arc<Service>, arrival: Arrival, incoming: Incoming) -> Response<Bytes> {
        let began = Instant::now();
        let active = service.metrics.load().server_request(&arrival.method, semconv::SCHEME);
        let source = service.source.load();
        let name = semconv::method(&arrival.method);
        let mut recorder = self.dispatcher.pipeline.record(&source, &incoming, name, SpanKind::Server);
        let lease = self.pin(service, &recorder);
        // A request that met an earlier version of the service before meets it here too.
        recorder.come_from(&lease.generation().source);
        let mut exchange = Exchange {
            service: service.clone(),
            lease: lease.clone(),
            method: arrival.method.clone(),
            version: arrival.connection.is_some().then_some(arrival.version),
            began,
            recorder,
            route: None,
            cost: None,
            has_ended: false,
        };
        let pipeline = self.dispatcher.pipeline.clone();
        let answered = self.answer(service, &lease, arrival, &mut exchange).await;
        drop(active);
        if let Err(Rejection::ClientGone) = answered {
            // Nobody is left to answer: the exchange ends as it does where the connection goes.
            drop(exchange);
            return Rejection::ClientGone.response();
        }
        exchange.end(answered, &pipeline)
    }

    /// The generation that this request meets at `service`: the one it met before, or the one that serves now.
    fn pin(&self, service: &Arc<Service>, recorder: &Recorder) -> Lease {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lease)) = pins.iter().find(|(name, _)| *name == service.name) {
            // A request of its own, which counts.
            return lease.another();
        }
        let lease = service.lease(recorder.trace_id());
        pins.push((service.name.clone(), lease.clone()));
        lease
    }

    async fn answer(
        self,
        service: &Arc<Service>,
        lease: &Lease,
        arrival: Arrival,
        exchange: &mut Exchange,
    ) -> Result<Reply, Rejection> {
        let generation = lease.generation();
        let limits = &generation.config.limits;
        let found = generation.routes().find(&arrival.method, arrival.uri.path());
        exchange.describe(&arrival, generation, &found);
        if service.is_removed() {
            return Err(Rejection::Gone);
        }
        if self.hops > HOP_BUDGET {
            return Err(Rejection::LoopDetected);
        }
        let (route, params) = match found {
            Match::Found { index, params } => (index, params),
            Match::WrongMethod(allowed) => return Err(Rejection::MethodNotAllowed(allowed)),
            Match::NotFound => return Err(Rejection::NotFound),
        };
        let names = generation.routes().parameter_names(route);
        metadata::attach(&mut exchange.recorder, &arrival.headers, arrival.uri.query(), names.zip(&params));
        let _permit = service.permit(limits.concurrency).ok_or(Rejection::Busy)?;
        let body = read_body(arrival.body, limits).await?;
        let query = arrival.uri.query().map(str::to_owned);
        let recorder = std::mem::replace(&mut exchange.recorder, Recorder::detached());
        let active = ActiveRequest { recorder, locals: Arc::new(self), elsewhere: Duration::ZERO };
        let invocation = Invocation { route, params, query, headers: arrival.headers, body, active };
        let Handled { result, recorder, cost } = generation.pool.handle(invocation).await;
        exchange.recorder = recorder;
        exchange.cost = Some(cost);
        result.map_err(Rejection::Failed)
    }
}

impl Exchange {
    /// Gives the server span its name and what is known of the request before it is served.
    fn describe(&mut self, arrival: &Arrival, generation: &Generation, found: &Match) {
        let server = self.recorder.server();
        if let Match::Found { index, .. } = found {
            self.route = Some(*index);
        }
        if !self.recorder.is_recording() {
            return;
        }
        let route = self.route.and_then(|index| generation.routes().get(index));
        let name = self.route.and_then(|index| generation.routes().span_name(index));
        if let Some((route, name)) = route.zip(name) {
            self.recorder.rename(server, semconv::server_name(route, name, &arrival.method));
        }
        if let Some(prepared) = generation.on_server_spans(self.route) {
            self.recorder.set_prepared(server, prepared);
        }
        semconv::server_request(&mut self.recorder, arrival, generation.config.listen, route);
    }

    /// Ends the server span, counts the request, and makes the response.
    fn end(mut self, answered: Result<Reply, Rejection>, pipeline: &Pipeline) -> Response<Bytes> {
        self.has_ended = true;
        let rejection = answered.as_ref().err();
        let status = answered.as_ref().map_or_else(Rejection::status, |reply| reply.status);
        semconv::server_response(&mut self.recorder, status, rejection, self.cost.as_ref());
        let duration = self.began.elapsed();
        self.lease.generation().tally.count(status.is_server_error(), duration);
        // An exemplar names a trace that can be looked up.
        let is_kept = self.recorder.is_recording() && pipeline.is_sure_to_keep(status.is_server_error(), duration);
        let trace = is_kept.then(|| (self.recorder.trace_id(), self.recorder.server_id()));
        self.count(status.as_u16(), rejection.and_then(Rejection::error_type), duration, trace);
        if matches!(rejection, Some(Rejection::Busy)) {
            self.service.metrics.load().rejected("concurrency_limit");
        }
        let abort = match rejection {
            Some(Rejection::Failed(Failure::Trapped(exception))) => Some(("wasm_trap", exception.message.clone())),
            Some(Rejection::Failed(Failure::TimedOut)) => Some(("timeout", String::from("request_timeout passed"))),
            _ => None,
        };
        let recorder = std::mem::replace(&mut self.recorder, Recorder::detached());
        recorder.finish(abort.as_ref().map(|(kind, message)| (*kind, message.as_str())));
        match answered {
            Ok(reply) => response(reply),
            Err(rejection) => rejection.response(),
        }
    }

    fn count(
        &self,
        status: u16,
        error_type: Option<&'static str>,
        duration: Duration,
        trace: Option<(TraceId, SpanId)>,
    ) {
        let route = self.route.and_then(|index| self.lease.generation().routes().get(index));
        self.service.metrics.load().served(&Served {
            method: &self.method,
            scheme: semconv::SCHEME,
            route: route.map(|route| &route.template),
            status,
            error_type,
            version: self.version,
            duration,
            trace,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.has_ended {
            self.count(0, Some("cancelled"), self.began.elapsed(), None);
        }
    }
}

async fn read_body(body: Body, limits: &crate::config::Limits) -> Result<Bytes, Rejection> {
    let limit = limits.request_body;
    match body {
        Body::Whole(bytes) if bytes.len() > limit => Err(Rejection::BodyTooLarge(limit)),
        Body::Whole(bytes) => Ok(bytes),
        Body::Stream(stream) => {
            let read = Limited::new(stream, limit).collect();
            let read = tokio::time::timeout(limits.request_timeout, read).await;
            let collected = read.map_err(|_| Rejection::ClientTooSlow(limits.request_timeout))?;
            let collected = collected.map_err(|error| match error.is::<LengthLimitError>() {
                true => Rejection::BodyTooLarge(limit),
                false if is_malformed(&*error) => Rejection::BrokenBody,
                false => Rejection::ClientGone,
            })?;
            Ok(collected.to_bytes())
        }
    }
}

/// Whether a body could not be read for what came; else nothing came any more.
fn is_malformed(error: &(dyn Error + 'static)) -> bool {
    let is_of_content =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(is_of_content) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn response(reply: Reply) -> Response<Bytes> {
    let Reply { status, headers, body } = reply;
    // RFC 9110, 15.3.5 and 15.4.5: these have no content, whatever the guest put there.
    let body = if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) { Bytes::new() } else { body };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

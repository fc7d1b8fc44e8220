//! The path of one request through one service. The request comes from the network or from a service of the same host.
//!
//! The dispatcher extracts the trace context, leases a generation, matches a route, reads the body, calls the guest,
//! checks the response and hands the spans over. A step that rejects the request returns a `Rejection`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ALLOW, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::exchange::Exchange;
use super::inbound_request::{InboundRequest, read_whole};
use super::rejection::Rejection;
use super::request_attributes::{self, AttributeSources};
use super::response_body::respond;
use super::{probe_span, standard};
use crate::batching;
use crate::boxed::boxed;
use crate::component::{Failure, GuestRequest, Guests, Invocation, InvocationOutcome, Reply};
use crate::config::RequestAttribute;
use crate::http::Body;
use crate::http::cors::{Cors, CorsDecision, is_preflight};
use crate::http::method::span_name;
use crate::http::routes::{Match, RouteIndex};
use crate::outbound::hops::{self, Hops};
use crate::outbound::{Call, LocalCalls, LocalService};
use crate::services::{Catalog, Generation, Lease, Service};
use crate::trace::{Incoming, Pipeline, Recorder, SpanKind};

/// Serves requests from the catalog.
pub struct Dispatcher {
    catalog: Arc<Catalog>,
    pipeline: Pipeline,
    /// The request attributes to record on spans.
    attributes: Vec<RequestAttribute>,
}

/// What a request hands to the calls that it makes to services of this host.
#[derive(Clone)]
struct CallContext {
    dispatcher: Arc<Dispatcher>,
    /// The generation of each service that the request or one of its calls has used. Later calls use the same
    /// generation.
    pinned: Arc<Mutex<Vec<Lease>>>,
    /// How many services the request has passed through, including this one.
    hops: Hops,
}

impl Dispatcher {
    /// A dispatcher for the services of `catalog`. Each request's spans record `attributes`.
    pub fn new(catalog: Arc<Catalog>, pipeline: Pipeline, attributes: Vec<RequestAttribute>) -> Arc<Dispatcher> {
        Arc::new(Dispatcher { catalog, pipeline, attributes })
    }

    /// The services that requests are dispatched to.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Serves a request from the network.
    pub fn serve(
        self: Arc<Self>,
        service: Arc<Service>,
        mut inbound: Box<InboundRequest>,
    ) -> BoxFuture<'static, Response<Body>> {
        inbound.incoming = self.pipeline.propagators().extract(&inbound.headers);
        let hops = Hops::read(&inbound.headers);
        let context = CallContext { dispatcher: self, pinned: Arc::default(), hops };
        boxed(move || context.serve(service, inbound))
    }

    /// Sends `GET path` to a generation that is not published yet, and returns the status of the response.
    pub async fn probe(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        recorder: Recorder,
        path: &str,
    ) -> Result<StatusCode, Failure> {
        let context = CallContext { dispatcher: self.clone(), pinned: Arc::default(), hops: Hops::first() };
        let instances = match generation.pool.guests() {
            Guests::Lean(instances) => instances,
            Guests::Standard(instances) => {
                return standard::probe((generation, instances), recorder, path, Arc::new(context)).await;
            }
        };
        let Match::Found { index: route, params } = generation.routes().find(&Method::GET, path) else {
            return Ok(StatusCode::NOT_FOUND);
        };
        let active = GuestRequest { recorder, locals: Arc::new(context), call_time: Duration::ZERO };
        let (query, headers, body) = (None, HeaderMap::new(), Bytes::new());
        let invocation = Invocation { route, params, query, headers, body, active };
        let InvocationOutcome { result, mut recorder, .. } = instances.handle(invocation).await;
        let status = result.map(|reply| reply.status);
        probe_span::record_result(&mut recorder, &status);
        let abort = status.as_ref().err().and_then(Failure::open_span_error);
        recorder.finish(abort.as_ref().map(|(kind, message)| (*kind, message.as_str())));
        status
    }
}

impl LocalCalls for CallContext {
    fn find(&self, call: &Call) -> Option<LocalService> {
        let catalog = &self.dispatcher.catalog;
        let service = match &call.service {
            Some(name) => catalog.find(name.as_str()),
            None => catalog.at(&call.origin),
        }?;
        let (dispatcher, pinned) = (self.dispatcher.clone(), self.pinned.clone());
        let context = CallContext { dispatcher, pinned, hops: self.hops.next() };
        Some(Box::new(move |call| context.serve_local(service, call)))
    }

    fn hops(&self) -> Hops {
        self.hops.clone()
    }
}

impl CallContext {
    /// Serves a call from a service of this host.
    fn serve_local(self, service: Arc<Service>, call: Call) -> BoxFuture<'static, Response<Body>> {
        let inbound = Box::new(InboundRequest {
            method: call.method,
            uri: call.uri,
            version: Version::HTTP_11,
            headers: call.headers,
            body: call.body,
            incoming: Incoming { parent: Some(call.context), baggage: call.baggage, denied: false },
            network: None,
        });
        boxed(move || self.serve(service, inbound))
    }

    /// Serves one request at `service` and records its server span.
    async fn serve(self, service: Arc<Service>, mut inbound: Box<InboundRequest>) -> Response<Body> {
        let resource = service.resource.load();
        let name = span_name(&inbound.method);
        let mut recorder = self.dispatcher.pipeline.record(&resource, &inbound.incoming, name, SpanKind::Server);
        let started = recorder.started_at().unwrap_or_else(Instant::now);
        let is_from_network = inbound.network.is_some();
        let lease = self.pinned_lease(&service, &recorder);
        // The request may have pinned another generation of the service than the one that serves now.
        recorder.set_resource(&lease.generation().resource);
        inbound.read_forwarded(&lease.generation().config.trusted_proxies);
        let mut exchange = Exchange::new(service, lease.clone(), &inbound, started, recorder);
        let result = self.handle(&lease, inbound, &mut exchange).await;
        if let Err(Rejection::ClientDisconnected) = result {
            // The dropped exchange counts the request as cancelled, as it does when the connection is closed.
            drop(exchange);
            return Rejection::ClientDisconnected.response();
        }
        let response = respond(exchange, result);
        if is_from_network {
            batching::wait_for_batch().await;
        }
        response
    }

    /// A lease on the generation of `service` that the request has used before, or else on the one that serves now.
    fn pinned_lease(&self, service: &Arc<Service>, recorder: &Recorder) -> Lease {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = pinned.iter().find(|lease| lease.generation().config.name == service.name) {
            // Each call counts as a request in flight and needs a lease.
            return lease.another();
        }
        let lease = service.lease(recorder.trace_id());
        pinned.push(lease.clone());
        lease
    }

    /// Validates the request, matches its route and calls the guest.
    async fn handle(
        self,
        lease: &Lease,
        mut inbound: Box<InboundRequest>,
        exchange: &mut Exchange,
    ) -> Result<Reply, Rejection> {
        let generation = lease.generation();
        let limits = &generation.config.limits;
        let found = generation.routes().find(&inbound.method, inbound.uri.path());
        exchange.describe_server_span(&inbound, generation, &found);
        if let Some(Err(error)) = inbound.network.as_ref().map(|network| &network.head) {
            return Err(error.clone().into());
        }
        if self.hops.is_exceeded() {
            return Err(Rejection::LoopDetected);
        }
        if let Some(cors) = generation.config.cors.as_ref().filter(|_| is_preflight(&inbound.method, &inbound.headers))
        {
            return preflight(cors, &inbound);
        }
        let instances = match generation.pool.guests() {
            Guests::Lean(instances) => instances,
            Guests::Standard(instances) => {
                let route = match &found {
                    Match::Found { index, params } => Some((*index, params.as_slice())),
                    Match::WrongMethod(_) | Match::NotFound => None,
                };
                self.attach_request_attributes(exchange, &inbound, generation, route);
                let locals = Arc::new(self);
                return standard::call((generation, instances), inbound, locals, exchange).await;
            }
        };
        if is_server_options(&inbound) {
            return Ok(server_options(generation));
        }
        let (route, params) = match found {
            Match::Found { index, params } => (index, params),
            Match::WrongMethod(allowed) => return Err(Rejection::MethodNotAllowed(allowed)),
            Match::NotFound => return Err(Rejection::NotFound),
        };
        self.attach_request_attributes(exchange, &inbound, generation, Some((route, &params)));
        inbound.replace_context(self.dispatcher.pipeline.propagators());
        hops::remove(&mut inbound.headers);
        let body = read_whole(inbound.body, limits, exchange.service()).await?;
        exchange.take_permit(limits.concurrency)?;
        let query = inbound.uri.query().map(str::to_owned);
        let recorder = exchange.take_recorder();
        let active = GuestRequest { recorder, locals: Arc::new(self), call_time: Duration::ZERO };
        let invocation = Invocation { route, params, query, headers: inbound.headers, body, active };
        exchange.guest_started();
        let InvocationOutcome { result, recorder, cost } = instances.handle(invocation).await;
        exchange.guest_stopped();
        exchange.recorder = Some(recorder);
        exchange.cost = Some(cost);
        result.map_err(Rejection::Failed)
    }

    /// Adds the request attributes of the manifest to the spans and the baggage.
    fn attach_request_attributes(
        &self,
        exchange: &mut Exchange,
        inbound: &InboundRequest,
        generation: &Generation,
        route: Option<(RouteIndex, &[String])>,
    ) {
        let attributes = &self.dispatcher.attributes;
        let Some(recorder) = exchange.recorder.as_mut().filter(|_| !attributes.is_empty()) else { return };
        let pairs = |(route, values)| generation.routes().parameter_names(route).zip(values);
        let parameters = route.into_iter().flat_map(pairs).map(|(name, value): (_, &String)| (name, value.as_str()));
        let parameters = parameters.collect();
        let sources = AttributeSources { headers: &inbound.headers, query: inbound.uri.query(), parameters };
        request_attributes::attach(recorder, attributes, &sources);
    }
}

/// The response to a CORS preflight. The exchange adds the header fields that name the allowed origin.
fn preflight(cors: &Cors, inbound: &InboundRequest) -> Result<Reply, Rejection> {
    match cors.decide(inbound.headers.get(ORIGIN)) {
        CorsDecision::Denied => Err(Rejection::CorsDenied),
        CorsDecision::Allowed | CorsDecision::NoOrigin => {
            Ok(Reply { status: StatusCode::NO_CONTENT, headers: cors.preflight(), body: Body::empty() })
        }
    }
}

/// Whether a request is `OPTIONS *`, which asks about the server as a whole (RFC 9110, 9.3.7).
fn is_server_options(inbound: &InboundRequest) -> bool {
    inbound.method == Method::OPTIONS && inbound.uri.path() == "*"
}

/// The response to `OPTIONS *`: the methods of all routes, and those that the host answers without a route.
fn server_options(generation: &Generation) -> Reply {
    let methods = generation.routes().methods().into_iter().collect::<Vec<_>>().join(", ");
    let headers = HeaderValue::from_str(&methods).map(|methods| (ALLOW, methods)).into_iter().collect();
    Reply { status: StatusCode::NO_CONTENT, headers, body: Body::empty() }
}

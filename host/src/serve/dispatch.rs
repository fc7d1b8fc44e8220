//! The life of one request at one service, whether it came from the network or from a service of the same host.
//!
//! Read trace context, lease a generation, match a route, read the body, call the guest, check the response, hand over
//! the spans. Every step that can reject the request does so with a `Rejection`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ALLOW, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::arrival::{Arrival, read_whole};
use super::exchange::Exchange;
use super::rejection::Rejection;
use super::request_attributes::{self, Places};
use super::response_body::respond;
use super::{probe_span, standard};
use crate::component::{Failure, GuestRequest, Guests, Invocation, InvocationOutcome, Reply};
use crate::config::{RequestAttribute, ServiceName};
use crate::http::Body;
use crate::http::cors::{Cors, Verdict, is_preflight};
use crate::http::method::span_name;
use crate::http::routes::{Match, RouteIndex};
use crate::outbound::hops::{self, HOP_BUDGET};
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

/// State shared by a request and the calls that it causes on this host.
#[derive(Clone)]
struct Chain {
    dispatcher: Arc<Dispatcher>,
    /// The generation of each service that the request has called. Later calls use the same one.
    pins: Arc<Mutex<Vec<(ServiceName, Lease)>>>,
    hops: u32,
}

impl Dispatcher {
    /// A dispatcher for the services of `catalog`. `attributes` are recorded on the spans of each request.
    pub fn new(catalog: Arc<Catalog>, pipeline: Pipeline, attributes: Vec<RequestAttribute>) -> Arc<Dispatcher> {
        Arc::new(Dispatcher { catalog, pipeline, attributes })
    }

    /// The services that requests are dispatched to.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Serves a request from the network.
    pub async fn serve(self: &Arc<Self>, service: &Arc<Service>, arrival: Arrival) -> Response<Body> {
        let incoming = self.pipeline.propagators().extract(&arrival.headers);
        let hops = hops::told(&arrival.headers);
        let chain = Chain { dispatcher: self.clone(), pins: Arc::default(), hops: hops.saturating_add(1) };
        chain.serve(service, arrival, incoming).await
    }

    /// Sends `GET path` to a generation that is not published yet, and returns the status of the response.
    pub async fn probe(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        recorder: Recorder,
        path: &str,
    ) -> Result<StatusCode, Failure> {
        let chain = Chain { dispatcher: self.clone(), pins: Arc::default(), hops: 1 };
        let instances = match generation.pool.guests() {
            Guests::Lean(instances) => instances,
            Guests::Standard(instances) => {
                return standard::probe((generation, instances), recorder, path, Arc::new(chain)).await;
            }
        };
        let Match::Found { index: route, params } = generation.routes().find(&Method::GET, path) else {
            return Ok(StatusCode::NOT_FOUND);
        };
        let active = GuestRequest { recorder, locals: Arc::new(chain), call_time: Duration::ZERO };
        let (query, headers, body) = (None, HeaderMap::new(), Bytes::new());
        let invocation = Invocation { route, params, query, headers, body, active };
        let InvocationOutcome { result, mut recorder, .. } = instances.handle(invocation).await;
        let answer = result.map(|reply| reply.status);
        probe_span::answered(&mut recorder, &answer);
        let abort = answer.as_ref().err().and_then(Failure::open_span_error);
        recorder.finish(abort.as_ref().map(|(kind, message)| (*kind, message.as_str())));
        answer
    }
}

impl LocalCalls for Chain {
    fn find(&self, call: &Call) -> Option<LocalService> {
        let catalog = &self.dispatcher.catalog;
        let service = match &call.service {
            Some(name) => catalog.find(name.as_str()),
            None => catalog.at(&call.origin),
        }?;
        let chain = Chain { hops: self.hops + 1, ..self.clone() };
        Some(Box::new(move |call| chain.take(service, call)))
    }

    fn hops(&self) -> u32 {
        self.hops
    }
}

impl Chain {
    /// Serves a call of another service of this host.
    fn take(self, service: Arc<Service>, call: Call) -> BoxFuture<'static, Response<Body>> {
        let incoming = Incoming { parent: Some(call.context), baggage: call.baggage, denied: false };
        let arrival = Arrival {
            method: call.method,
            uri: call.uri,
            version: Version::HTTP_11,
            headers: call.headers,
            body: call.body,
            connection: None,
        };
        Box::pin(async move { self.serve(&service, arrival, incoming).await })
    }

    async fn serve(self, service: &Arc<Service>, mut arrival: Arrival, incoming: Incoming) -> Response<Body> {
        let began = Instant::now();
        let resource = service.resource.load();
        let name = span_name(&arrival.method);
        let mut recorder = self.dispatcher.pipeline.record(&resource, &incoming, name, SpanKind::Server);
        let lease = self.pin(service, &recorder);
        // If the request has already used another version of the service, it uses that one here too.
        recorder.set_resource(&lease.generation().resource);
        arrival.believe(&lease.generation().config.trusted_proxies);
        let pipeline = self.dispatcher.pipeline.clone();
        let mut exchange = Exchange::new(service, lease.clone(), &arrival, began, (recorder, pipeline));
        let answered = self.answer(service, &lease, arrival, &mut exchange).await;
        if let Err(Rejection::ClientGone) = answered {
            // The client is gone: the exchange ends as it does when the connection is closed.
            drop(exchange);
            return Rejection::ClientGone.response();
        }
        respond(exchange, answered)
    }

    /// The generation that serves this request at `service`: the one used before, or else the one that serves now.
    fn pin(&self, service: &Arc<Service>, recorder: &Recorder) -> Lease {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lease)) = pins.iter().find(|(name, _)| *name == service.name) {
            // A separate lease, because each call counts as a request in flight.
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
        if let Some(received) = &arrival.connection {
            received.head.clone()?;
        }
        if self.hops > HOP_BUDGET {
            return Err(Rejection::LoopDetected);
        }
        if let Some(cors) = generation.config.cors.as_ref().filter(|_| is_preflight(&arrival.method, &arrival.headers))
        {
            return preflight(cors, &arrival);
        }
        let instances = match generation.pool.guests() {
            Guests::Lean(instances) => instances,
            Guests::Standard(instances) => {
                let route = match &found {
                    Match::Found { index, params } => Some((*index, params.as_slice())),
                    Match::WrongMethod(_) | Match::NotFound => None,
                };
                self.attach_metadata(exchange, &arrival, generation, route);
                let locals = Arc::new(self);
                return standard::answer(service, (generation, instances), arrival, locals, exchange).await;
            }
        };
        if is_for_the_server(&arrival) {
            return Ok(allowed(generation));
        }
        let (route, params) = match found {
            Match::Found { index, params } => (index, params),
            Match::WrongMethod(allowed) => return Err(Rejection::MethodNotAllowed(allowed)),
            Match::NotFound => return Err(Rejection::NotFound),
        };
        self.attach_metadata(exchange, &arrival, generation, Some((route, &params)));
        let body = read_whole(arrival.body, limits, service).await?;
        exchange.permit = Some(service.permit(limits.concurrency).ok_or(Rejection::Busy)?);
        let query = arrival.uri.query().map(str::to_owned);
        let recorder = std::mem::replace(&mut exchange.recorder, Recorder::detached());
        let active = GuestRequest { recorder, locals: Arc::new(self), call_time: Duration::ZERO };
        let invocation = Invocation { route, params, query, headers: arrival.headers, body, active };
        exchange.guest_begins();
        let InvocationOutcome { result, recorder, cost } = instances.handle(invocation).await;
        exchange.guest_ends();
        exchange.recorder = recorder;
        exchange.cost = Some(cost);
        result.map_err(Rejection::Failed)
    }

    /// Adds the request attributes of the manifest to the spans and the baggage.
    fn attach_metadata(
        &self,
        exchange: &mut Exchange,
        arrival: &Arrival,
        generation: &Generation,
        route: Option<(RouteIndex, &[String])>,
    ) {
        let named = |(route, values)| generation.routes().parameter_names(route).zip(values);
        let parameters = route.into_iter().flat_map(named).map(|(name, value): (_, &String)| (name, value.as_str()));
        let parameters = parameters.collect();
        let places = Places { headers: &arrival.headers, query: arrival.uri.query(), parameters };
        request_attributes::attach(&mut exchange.recorder, &self.dispatcher.attributes, &places);
    }
}

/// The response to a CORS preflight. The exchange adds the fields that name the allowed origin.
fn preflight(cors: &Cors, arrival: &Arrival) -> Result<Reply, Rejection> {
    match cors.judge(arrival.headers.get(ORIGIN)) {
        Verdict::Denied => Err(Rejection::ForeignPage),
        Verdict::Allowed | Verdict::NoPage => {
            Ok(Reply { status: StatusCode::NO_CONTENT, headers: cors.preflight(), body: Body::empty() })
        }
    }
}

/// Whether a request asks about the server as a whole: `OPTIONS *` (RFC 9110, 9.3.7).
fn is_for_the_server(arrival: &Arrival) -> bool {
    arrival.method == Method::OPTIONS && arrival.uri.path() == "*"
}

/// The methods of all routes, and those that the host answers without a route.
fn allowed(generation: &Generation) -> Reply {
    let declared = generation.routes().routes().iter().map(|route| route.method.as_str());
    let mut methods: BTreeSet<_> = declared.chain([Method::OPTIONS.as_str()]).collect();
    if methods.contains(Method::GET.as_str()) {
        methods.insert(Method::HEAD.as_str());
    }
    let methods = methods.into_iter().collect::<Vec<_>>().join(", ");
    let headers = HeaderValue::from_str(&methods).map(|methods| (ALLOW, methods)).into_iter().collect();
    Reply { status: StatusCode::NO_CONTENT, headers, body: Body::empty() }
}

//! Outbound calls of services. The host checks the allow list and then calls a service of this host or the network.
//!
//! A call to a service of the same host uses no socket, and has the same spans and limits as a network call. A call
//! that is not allowed is rejected before any lookup or connection. An origin that only a wildcard allows must have a
//! public address and must not be a service of this host.

mod call_error;
mod connection;
mod connector;
pub mod hops;
mod lookup;
mod network;
mod public;
mod user_info;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;

pub use self::call_error::{CallError, ConnectionFailure};
use self::hops::Hops;
pub use self::network::Network;
use self::network::{OutgoingRequest, Permission};
use crate::config::{Origin, OriginPattern, OutboundConfig, ServiceName};
use crate::http::{Body, BodyError, declared};
use crate::trace::{self, Baggage, Propagators, TraceContext};

/// An outbound request.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The absolute target URI.
    pub uri: Uri,
    /// Scheme, host and port of `uri`.
    pub origin: Origin,
    /// The service of this host that receives the call regardless of the URL: the service that `next` names.
    pub service: Option<ServiceName>,
    /// The header fields that the guest set.
    pub headers: HeaderMap,
    /// The request body.
    pub body: Body,
    /// The client span, which is the parent of the callee's spans.
    pub context: TraceContext,
    /// The baggage to propagate.
    pub baggage: Baggage,
}

/// A service of this host that receives one call.
pub type LocalService = Box<dyn FnOnce(Call) -> BoxFuture<'static, Response<Body>> + Send>;

/// Calls of one request to services of this host.
pub trait LocalCalls: Send + Sync {
    /// The service that the call names, or else the service that listens at `call.origin`. `None` if this host has no
    /// such service. The returned service receives the call even if another service listens at the origin afterwards.
    fn find(&self, call: &Call) -> Option<LocalService>;

    /// How many services the request has passed through, including this one.
    fn hops(&self) -> Hops;
}

/// The origins that one service may call, and the limits of its calls.
pub struct Outbound {
    config: OutboundConfig,
    propagators: Propagators,
    network: Network,
    /// The most bytes of a response body.
    response_limit: usize,
    /// The longest time until the head of a response.
    timeout: Duration,
    /// The longest pause in a response body.
    idle_timeout: Duration,
}

impl Outbound {
    /// The outbound calls of a service with this configuration.
    pub fn new(
        config: &OutboundConfig,
        limits: &crate::config::Limits,
        propagators: Propagators,
        network: Network,
    ) -> Outbound {
        Outbound {
            config: config.clone(),
            propagators,
            network,
            response_limit: limits.response_body,
            timeout: limits.request_timeout,
            idle_timeout: limits.idle_timeout,
        }
    }

    /// The propagators of trace context.
    pub fn propagators(&self) -> &Propagators {
        &self.propagators
    }

    /// Whether the manifest allows calls to `origin`.
    pub fn allows(&self, origin: &Origin) -> bool {
        self.permission(origin).is_some()
    }

    fn permission(&self, origin: &Origin) -> Option<Permission> {
        let mut patterns = self.config.allow.iter().filter(|pattern| pattern.matches(origin)).peekable();
        patterns.peek()?;
        Some(if patterns.any(OriginPattern::is_exact) { Permission::Exact } else { Permission::Wildcard })
    }

    /// Sends one call and waits for the head of its response. The body fails after `response_body` bytes or a pause of
    /// more than `idle_timeout`.
    pub async fn send(&self, mut call: Call, locals: Arc<dyn LocalCalls>) -> Result<Response<Body>, CallError> {
        let permission = match (&call.service, self.permission(&call.origin)) {
            // The manifest names this service (`next`).
            (Some(_), _) => Permission::Exact,
            (None, Some(permission)) => permission,
            (None, None) => return Err(CallError::Denied(call.origin)),
        };
        // One lookup, so that the check and the call use the same service even if the manifest changes in between.
        let local = locals.find(&call);
        if local.is_some() && permission == Permission::Wildcard {
            // A wildcard does not allow calls to services of this host.
            return Err(CallError::Denied(call.origin));
        }
        self.strip_context(&mut call, local.is_some());
        user_info::move_to_headers(&mut call.uri, &mut call.headers);
        let response = match (local, &call.service) {
            (Some(local), _) => {
                call.body = declared(call.body, &call.headers);
                local(call).await
            }
            (None, Some(name)) => {
                let reason = format!("this host has no service `{name}`");
                return Err(CallError::Unreachable { failure: ConnectionFailure::NotConnected, reason });
            }
            (None, None) => {
                let sent = pin!(self.send_over_network(call, permission, locals.hops()));
                let sent = tokio::time::timeout(self.timeout, sent).await;
                sent.unwrap_or(Err(CallError::TimedOut))?
            }
        };
        Ok(response.map(|body| body.bounded(self.response_limit, self.idle_timeout)))
    }

    /// Sends one call and waits for its whole response, of at most `response_body` bytes. `reserve` reserves memory for
    /// each part of the body and returns false if the part exceeds the caller's memory limit.
    pub async fn send_whole(
        &self,
        call: Call,
        locals: Arc<dyn LocalCalls>,
        mut reserve: impl FnMut(usize) -> bool,
    ) -> Result<Response<Bytes>, CallError> {
        let (parts, body) = self.send(call, locals).await?.into_parts();
        let limit = self.response_limit;
        if body.size_hint().lower() > limit as u64 {
            return Err(CallError::TooLarge(limit));
        }
        let mut body = match body {
            Body::Whole(bytes) if reserve(bytes.len()) => return Ok(Response::from_parts(parts, bytes)),
            Body::Whole(_) => return Err(CallError::MemoryLimit),
            body => body,
        };
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| body_error(error, limit))?.into_data() else { continue };
            if !reserve(data.len()) {
                return Err(CallError::MemoryLimit);
            }
            read.extend_from_slice(&data);
        }
        Ok(Response::from_parts(parts, read.freeze()))
    }

    /// Removes trace context and baggage that the callee must not receive, both of the trace and in header fields that
    /// the guest has set. Services of this host receive both, except for baggage to origins in `no_baggage`.
    fn strip_context(&self, call: &mut Call, is_local: bool) {
        let OutboundConfig { baggage, no_baggage, trace_context, .. } = &self.config;
        let is_excluded = no_baggage.iter().any(|pattern| pattern.matches(&call.origin));
        if is_excluded || !(is_local || baggage.include(&call.origin)) {
            call.baggage = Baggage::default();
            trace::remove_baggage(&mut call.headers);
        }
        if !is_local && !trace_context.include(&call.origin) {
            call.context = TraceContext::none();
            trace::remove_context(&mut call.headers);
        }
    }

    async fn send_over_network(
        &self,
        call: Call,
        permission: Permission,
        hops: Hops,
    ) -> Result<Response<Body>, CallError> {
        let Call { method, uri, origin, mut headers, body, context, baggage, .. } = call;
        self.propagators.inject(&context, Some(&baggage), &mut headers);
        // Neither the guest nor a client may set the field.
        hops::remove(&mut headers);
        if self.config.trace_context.include(&origin) {
            hops.write(&origin, &mut headers);
        }
        headers.remove(http::header::HOST);
        self.network.send(OutgoingRequest { method, uri, headers, body }, &origin, permission).await
    }
}

fn body_error(error: BodyError, limit: usize) -> CallError {
    match error {
        BodyError::TooLarge(_) => CallError::TooLarge(limit),
        BodyError::Paused(_) => CallError::TimedOut,
        other => CallError::Unreachable { failure: ConnectionFailure::Protocol, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::{HeaderName, HeaderValue};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{Limits, Recipients};

    /// Services of this host at every origin, or none. They record the calls.
    struct RecordingServices {
        serves: bool,
        body_size: usize,
        calls: Arc<Mutex<Vec<(HeaderMap, TraceContext)>>>,
    }

    impl LocalCalls for RecordingServices {
        fn find(&self, _: &Call) -> Option<LocalService> {
            let (calls, body_size) = (self.calls.clone(), self.body_size);
            let service = move |call: Call| {
                calls.lock().unwrap().push((call.headers, call.context));
                let response = Response::new(Body::Whole(vec![0; body_size].into()));
                Box::pin(std::future::ready(response)) as BoxFuture<'static, Response<Body>>
            };
            self.serves.then(|| Box::new(service) as LocalService)
        }

        fn hops(&self) -> Hops {
            Hops::first()
        }
    }

    /// Starts a server outside the host. Returns its URL, and the header fields of the requests that it receives.
    async fn external_server() -> (String, Arc<Mutex<Vec<HeaderMap>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let recorded = requests.clone();
        tokio::spawn(async move {
            loop {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                let (mut head, mut line) = (HeaderMap::new(), String::new());
                while stream.read_line(&mut line).await.unwrap() > 2 {
                    if let Some((name, value)) = line.trim_end().split_once(": ") {
                        head.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
                    }
                    line.clear();
                }
                recorded.lock().unwrap().push(head);
                stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
            }
        });
        (url, requests)
    }

    fn local_services(serves: bool, body_size: usize) -> Arc<RecordingServices> {
        Arc::new(RecordingServices { serves, body_size, calls: Arc::default() })
    }

    fn patterns(texts: &[&str]) -> Vec<OriginPattern> {
        texts.iter().map(|text| OriginPattern::parse(text).unwrap()).collect()
    }

    fn outbound(config: &OutboundConfig, limits: &Limits) -> Outbound {
        Outbound::new(config, limits, Propagators::new(&[]), Network::new().unwrap())
    }

    /// A call with propagation headers that the guest has set.
    fn call(url: &str) -> Call {
        let uri: Uri = url.parse().unwrap();
        let fields = ["baggage", "traceparent", "b3", "x-b3-traceid", "uber-trace-id", "uberctx-a", "spandrel-hops"];
        let fields = fields.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("a=1")));
        Call {
            method: Method::GET,
            origin: Origin::of(&uri).unwrap(),
            service: None,
            uri,
            headers: HeaderMap::from_iter(fields),
            body: Body::empty(),
            context: TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap(),
            baggage: Baggage::default(),
        }
    }

    #[tokio::test]
    async fn a_response_body_over_the_callers_limit_fails() {
        let config = OutboundConfig { allow: patterns(&["http://a.example"]), ..OutboundConfig::default() };
        let outbound = outbound(&config, &Limits { response_body: 10, ..Limits::default() });
        for (size, expected) in [(10, Ok(10)), (11, Err(BodyError::TooLarge(10)))] {
            let response = outbound.send(call("http://a.example/"), local_services(true, size)).await.unwrap();
            assert_eq!(response.into_body().collect().await.map(|body| body.len()), expected, "{size} bytes");
        }
    }

    #[tokio::test]
    async fn the_manifest_decides_which_context_a_call_carries_even_if_the_guest_sets_headers() {
        let (url, requests) = external_server().await;
        let one = || patterns(&[url.trim_end_matches('/')]);
        let standard = OutboundConfig { allow: one(), trace_context: Recipients::All(true), ..Default::default() };
        let check = async |config: OutboundConfig, is_local, baggage, context| {
            let services = local_services(is_local, 0);
            outbound(&config, &Limits::default()).send(call(&url), services.clone()).await.unwrap();
            let headers = if is_local {
                let (headers, sent) = services.calls.lock().unwrap().remove(0);
                assert_eq!(sent.is_valid(), context, "{config:?}");
                headers
            } else {
                requests.lock().unwrap().remove(0)
            };
            let all = |names: &[&str]| names.iter().all(|name| headers.contains_key(*name));
            let none = |names: &[&str]| !names.iter().any(|name| headers.contains_key(*name));
            let (all_baggage, all_context) =
                (["baggage", "uberctx-a"], ["traceparent", "b3", "x-b3-traceid", "uber-trace-id"]);
            assert!(if baggage { all(&all_baggage) } else { none(&all_baggage) }, "{config:?} {headers:?}");
            assert!(if context { all(&all_context) } else { none(&all_context) }, "{config:?} {headers:?}");
            let has_hops = headers.get("spandrel-hops").is_some_and(|value| value != "a=1");
            assert_eq!(has_hops, context && !is_local, "{config:?} {headers:?}");
        };
        check(standard.clone(), true, true, true).await;
        check(standard.clone(), false, false, true).await;
        check(OutboundConfig { baggage: Recipients::All(true), ..standard.clone() }, false, true, true).await;
        check(OutboundConfig { baggage: Recipients::Listed(one()), ..standard.clone() }, false, true, true).await;
        let no_baggage = OutboundConfig { baggage: Recipients::All(true), no_baggage: one(), ..standard.clone() };
        check(no_baggage.clone(), false, false, true).await;
        check(no_baggage, true, false, true).await;
        let no_context = OutboundConfig { trace_context: Recipients::All(false), ..standard.clone() };
        check(no_context.clone(), false, false, false).await;
        check(no_context, true, true, true).await;
        let other = Recipients::Listed(patterns(&["http://b.example"]));
        check(OutboundConfig { trace_context: other, ..standard }, false, false, false).await;
    }

    #[tokio::test]
    async fn a_wildcard_does_not_allow_calls_to_services_of_this_host() {
        let send = async |allow: &[&str], url: &str, serves| {
            let config = OutboundConfig { allow: patterns(allow), ..OutboundConfig::default() };
            outbound(&config, &Limits::default()).send(call(url), local_services(serves, 0)).await.map(drop)
        };
        let (url, _) = external_server().await;
        let denied = |url| Err(CallError::Denied(Origin::parse(url).unwrap()));
        for (wildcard, url) in [("*", url.trim_end_matches('/')), ("http://*.a.localhost", "http://b.a.localhost")] {
            assert_eq!(send(&[wildcard], url, true).await, denied(url), "{wildcard}");
            let over_network = send(&[wildcard], url, false).await;
            assert!(
                over_network.is_err() && over_network != denied(url),
                "{wildcard} does not allow an address that is not public: {over_network:?}"
            );
            assert_eq!(send(&[wildcard, url], url, true).await, Ok(()));
        }
        assert_eq!(send(&[url.trim_end_matches('/')], &url, false).await, Ok(()));
        assert_eq!(
            send(&["https://*.a.localhost"], "http://b.a.localhost", false).await,
            denied("http://b.a.localhost")
        );
    }

    /// Services that change during a call: the first lookup finds no service, later lookups do.
    struct ChangingServices(AtomicBool);

    impl LocalCalls for ChangingServices {
        fn find(&self, call: &Call) -> Option<LocalService> {
            self.0.swap(true, Ordering::Relaxed).then(|| local_services(true, 0).find(call))?
        }

        fn hops(&self) -> Hops {
            Hops::first()
        }
    }

    #[tokio::test]
    async fn a_service_that_starts_during_a_call_is_not_called_by_a_wildcard() {
        let config = OutboundConfig { allow: patterns(&["*"]), ..OutboundConfig::default() };
        let (url, _) = external_server().await;
        let changing = Arc::new(ChangingServices(false.into()));
        let response = outbound(&config, &Limits::default()).send(call(&url), changing).await.map(drop);
        assert!(matches!(response, Err(CallError::NotPublic(..))), "{response:?}");
    }
}

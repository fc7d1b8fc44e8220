//! Outbound calls of services: the allow list first, then a service of this host or the network.
//!
//! A call to a service of the same host uses no socket; otherwise it is the same call, with the same spans and limits.
//! A call that is not allowed is rejected before any lookup or connection. Origins that only a wildcard allows must
//! have public addresses and must not be services of this host.

mod call_error;
pub mod hops;
mod lookup;
mod network;
mod public;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;

pub use self::call_error::CallError;
pub use self::network::{Network, client};
use self::network::{Permission, Sending};
use crate::config::{Origin, OriginPattern, OutboundConfig, ServiceName};
use crate::http::{Body, BodyError};
use crate::trace::{self, Baggage, Propagators, TraceContext};

/// An outbound request.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The absolute target URI.
    pub uri: Uri,
    /// Scheme, host and port of `uri`.
    pub origin: Origin,
    /// The service of this host that receives the call whatever the URL says: the one that `next` names.
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

/// The services of this host, as the calls of one request see them.
pub trait LocalCalls: Send + Sync {
    /// Calls the service that the call names, or else the one that serves `call.origin`. Returns the call if this host
    /// has no such service.
    fn call(&self, call: Call) -> Result<BoxFuture<'static, Response<Body>>, Call>;

    /// Whether a service of this host serves `origin`.
    fn serve(&self, origin: &Origin) -> bool;

    /// How many services the request has passed through, including this one.
    fn hops(&self) -> u32;
}

/// What one service may call, and under which limits.
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
        let is_local = call.service.is_some() || locals.serve(&call.origin);
        if is_local && permission == Permission::Wildcard {
            // Services of this host can be called only by services whose manifest names them exactly.
            return Err(CallError::Denied(call.origin));
        }
        self.withhold(&mut call, is_local);
        let answer = match locals.call(call) {
            Ok(answer) => answer.await,
            Err(Call { service: Some(name), .. }) => {
                return Err(CallError::Unreachable(format!("there is no service `{name}`")));
            }
            Err(call) => {
                let sent = self.over_network(call, permission, locals.hops());
                let sent = tokio::time::timeout(self.timeout, sent).await;
                sent.unwrap_or(Err(CallError::TimedOut))?
            }
        };
        Ok(answer.map(|body| body.bounded(self.response_limit, self.idle_timeout)))
    }

    /// Sends one call and waits for its whole response, of at most `response_body` bytes. `hold` reserves memory for
    /// each part of it and returns false if the caller's limit is exceeded.
    pub async fn send_whole(
        &self,
        call: Call,
        locals: Arc<dyn LocalCalls>,
        mut hold: impl FnMut(usize) -> bool,
    ) -> Result<Response<Bytes>, CallError> {
        let (parts, body) = self.send(call, locals).await?.into_parts();
        let limit = self.response_limit;
        if body.size_hint().lower() > limit as u64 {
            return Err(CallError::TooLarge(limit));
        }
        let mut body = match body {
            Body::Whole(bytes) if hold(bytes.len()) => return Ok(Response::from_parts(parts, bytes)),
            Body::Whole(_) => return Err(CallError::NoRoom),
            body => body,
        };
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| of_body(error, limit))?.into_data() else { continue };
            if !hold(data.len()) {
                return Err(CallError::NoRoom);
            }
            read.extend_from_slice(&data);
        }
        Ok(Response::from_parts(parts, read.freeze()))
    }

    /// Removes trace context and baggage that the callee must not receive, whether from the trace or set by the guest
    /// itself. Services of this host receive everything unless the manifest excludes them by name.
    fn withhold(&self, call: &mut Call, is_local: bool) {
        let OutboundConfig { baggage, no_baggage, trace_context, .. } = &self.config;
        let withheld = no_baggage.iter().any(|pattern| pattern.matches(&call.origin));
        if withheld || !(is_local || baggage.include(&call.origin)) {
            call.baggage = Baggage::default();
            trace::remove_baggage(&mut call.headers);
        }
        if !is_local && !trace_context.include(&call.origin) {
            call.context = TraceContext::none();
            trace::remove_context(&mut call.headers);
        }
    }

    async fn over_network(&self, call: Call, permission: Permission, hops: u32) -> Result<Response<Body>, CallError> {
        let Call { method, uri, origin, mut headers, body, context, baggage, .. } = call;
        self.propagators.inject(&context, Some(&baggage), &mut headers);
        hops::tell(hops, &origin, &mut headers);
        headers.remove(http::header::HOST);
        self.network.send(Sending { method, uri, headers, body }, &origin, permission).await
    }
}

fn of_body(error: BodyError, limit: usize) -> CallError {
    match error {
        BodyError::TooLarge(_) => CallError::TooLarge(limit),
        BodyError::Paused(_) => CallError::TimedOut,
        other => CallError::Unreachable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::{Limits, Recipients};

    /// A host that serves every origin, or none, and records the calls.
    struct Neighbours {
        serve: bool,
        answer: usize,
        arrived: Mutex<Vec<(HeaderMap, TraceContext)>>,
    }

    impl LocalCalls for Neighbours {
        fn call(&self, call: Call) -> Result<BoxFuture<'static, Response<Body>>, Call> {
            self.arrived.lock().unwrap().push((call.headers, call.context));
            let answer = Response::new(Body::Whole(vec![0; self.answer].into()));
            Ok(Box::pin(std::future::ready(answer)))
        }

        fn serve(&self, _: &Origin) -> bool {
            self.serve
        }

        fn hops(&self) -> u32 {
            1
        }
    }

    fn neighbours(serve: bool, answer: usize) -> Arc<Neighbours> {
        Arc::new(Neighbours { serve, answer, arrived: Mutex::default() })
    }

    fn patterns(texts: &[&str]) -> Vec<OriginPattern> {
        texts.iter().map(|text| OriginPattern::parse(text).unwrap()).collect()
    }

    fn outbound(config: &OutboundConfig, limits: &Limits) -> Outbound {
        Outbound::new(config, limits, Propagators::new(&[]), Network::new().unwrap())
    }

    /// A call with headers set by the guest.
    fn call(url: &str) -> Call {
        let uri: Uri = url.parse().unwrap();
        let own = ["baggage", "traceparent", "b3", "x-b3-traceid", "uber-trace-id", "uberctx-a"];
        let own = own.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("a=1")));
        Call {
            method: Method::GET,
            origin: Origin::of(&uri).unwrap(),
            service: None,
            uri,
            headers: HeaderMap::from_iter(own),
            body: Body::empty(),
            context: TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap(),
            baggage: Baggage::default(),
        }
    }

    #[tokio::test]
    async fn the_body_of_an_answer_ends_at_the_callers_limit() {
        let config = OutboundConfig { allow: patterns(&["http://a.example"]), ..OutboundConfig::default() };
        let outbound = outbound(&config, &Limits { response_body: 10, ..Limits::default() });
        for (size, expected) in [(10, Ok(10)), (11, Err(BodyError::TooLarge(10)))] {
            let answer = outbound.send(call("http://a.example/"), neighbours(true, size)).await.unwrap();
            assert_eq!(answer.into_body().collect().await.map(|body| body.len()), expected, "{size} bytes");
        }
    }

    #[tokio::test]
    async fn what_goes_with_a_call_is_what_the_manifest_says_whatever_the_guest_wrote() {
        let one = || patterns(&["http://a.example"]);
        let standard = OutboundConfig { allow: one(), trace_context: Recipients::Every(true), ..Default::default() };
        let check = |config: OutboundConfig, is_local, baggage, context| async move {
            let told = neighbours(is_local, 0);
            outbound(&config, &Limits::default()).send(call("http://a.example/"), told.clone()).await.unwrap();
            let (headers, sent) = told.arrived.lock().unwrap().remove(0);
            let names = |names: &[&str]| names.iter().all(|name| headers.contains_key(*name));
            let none = |names: &[&str]| !names.iter().any(|name| headers.contains_key(*name));
            let (all_baggage, all_context) =
                (["baggage", "uberctx-a"], ["traceparent", "b3", "x-b3-traceid", "uber-trace-id"]);
            assert!(if baggage { names(&all_baggage) } else { none(&all_baggage) }, "{config:?} {headers:?}");
            assert!(if context { names(&all_context) } else { none(&all_context) }, "{config:?} {headers:?}");
            assert_eq!(sent.is_valid(), context, "{config:?}");
        };
        check(standard.clone(), true, true, true).await;
        check(standard.clone(), false, false, true).await;
        check(OutboundConfig { baggage: Recipients::Every(true), ..standard.clone() }, false, true, true).await;
        check(OutboundConfig { baggage: Recipients::Listed(one()), ..standard.clone() }, false, true, true).await;
        let withheld = OutboundConfig { baggage: Recipients::Every(true), no_baggage: one(), ..standard.clone() };
        check(withheld.clone(), false, false, true).await;
        check(withheld, true, false, true).await;
        let untold = OutboundConfig { trace_context: Recipients::Every(false), ..standard.clone() };
        check(untold.clone(), false, false, false).await;
        check(untold, true, true, true).await;
        let other = Recipients::Listed(patterns(&["http://b.example"]));
        check(OutboundConfig { trace_context: other, ..standard }, false, false, false).await;
    }

    #[tokio::test]
    async fn a_wildcard_leads_to_no_service_of_this_host() {
        let send = |allow: &'static [&'static str], serve| async move {
            let config = OutboundConfig { allow: patterns(allow), ..OutboundConfig::default() };
            let outbound = outbound(&config, &Limits::default());
            outbound.send(call("http://a.example.com/"), neighbours(serve, 0)).await.map(drop)
        };
        let denied = Err(CallError::Denied(Origin::parse("http://a.example.com").unwrap()));
        let wildcards: [&'static [&'static str]; 2] = [&["*"], &["http://*.example.com"]];
        for wildcard in wildcards {
            assert_eq!(send(wildcard, true).await, denied, "{wildcard:?}");
            assert_eq!(send(wildcard, false).await, Ok(()), "{wildcard:?}");
        }
        assert_eq!(send(&["http://*.example.com", "http://a.example.com"], true).await, Ok(()));
        assert_eq!(send(&["https://*.example.com"], false).await, denied);
    }
}

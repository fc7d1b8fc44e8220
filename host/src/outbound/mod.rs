//! The way out of a service: the allow list first, then a service of this host or the network.
//!
//! A call to a service of the same host never touches a socket; it is otherwise the same call, with the same spans and
//! limits. What is not allowed is refused before anything is looked up or connected.

pub mod hops;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use thiserror::Error;

use crate::config::Origin;
use crate::http::head::FIELDS_LIMIT;
use crate::http::{Body, BodyError, header_rules};
use crate::trace::{self, Baggage, Propagators, TraceContext};

/// Why a call got no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CallError {
    /// The manifest does not list the origin under `[service.outbound]`.
    #[error("the manifest does not allow calls to {0}")]
    Denied(Origin),
    /// No absolute http or https URL.
    #[error("{0}")]
    InvalidUrl(String),
    /// No connection, or one that broke.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The answer is over the caller's `response_body`.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The caller's memory limit has no room for the call or its answer.
    #[error("the service's memory limit has no room for the call and its answer")]
    NoRoom,
}

impl CallError {
    /// The value of `error.type` on the client span.
    pub fn error_type(&self) -> &'static str {
        match self {
            CallError::Denied(_) => "denied",
            CallError::InvalidUrl(_) => "invalid_url",
            CallError::Unreachable(_) => "unreachable",
            CallError::TimedOut => "timeout",
            CallError::TooLarge(_) => "response_too_large",
            CallError::NoRoom => "memory_limit",
        }
    }
}

/// A request on its way out.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Where to, absolute.
    pub uri: Uri,
    /// `uri`'s scheme, host and port.
    pub origin: Origin,
    /// The fields that the guest set.
    pub headers: HeaderMap,
    /// What follows the head.
    pub body: Body,
    /// The client span, as the callee will see it.
    pub context: TraceContext,
    /// What travels with the trace.
    pub baggage: Baggage,
}

/// The services of this host, as one request may call them.
pub trait LocalCalls: Send + Sync {
    /// Calls the service that serves `call.origin`, or gives the call back where none of this host does.
    fn call(&self, call: Call) -> Result<BoxFuture<'static, Response<Body>>, Call>;

    /// How many services the request has been through, this one included.
    fn hops(&self) -> u32;
}

/// What one service may call, and how.
pub struct Outbound {
    allow: Vec<Origin>,
    no_baggage: Vec<Origin>,
    propagators: Propagators,
    network: reqwest::Client,
    /// The most bytes that an answer may have.
    response_limit: usize,
    /// The longest time until the head of an answer.
    timeout: Duration,
    /// The longest pause in the body of an answer.
    idle_timeout: Duration,
}

impl Outbound {
    /// A way out to the origins in `config`.
    pub fn new(
        config: &crate::config::OutboundConfig,
        limits: &crate::config::Limits,
        propagators: Propagators,
        network: reqwest::Client,
    ) -> Outbound {
        Outbound {
            allow: config.allow.clone(),
            no_baggage: config.no_baggage.clone(),
            propagators,
            network,
            response_limit: limits.response_body,
            timeout: limits.request_timeout,
            idle_timeout: limits.idle_timeout,
        }
    }

    /// The formats in which trace context travels.
    pub fn propagators(&self) -> &Propagators {
        &self.propagators
    }

    /// Whether the manifest allows calls to `origin`.
    pub fn allows(&self, origin: &Origin) -> bool {
        self.allow.contains(origin)
    }

    /// Sends one call and waits for the head of its answer. The body is cut off after `response_body` bytes or a pause of
    /// more than `idle_timeout`.
    pub async fn send(&self, mut call: Call, locals: Arc<dyn LocalCalls>) -> Result<Response<Body>, CallError> {
        if !self.allows(&call.origin) {
            return Err(CallError::Denied(call.origin));
        }
        if self.no_baggage.contains(&call.origin) {
            call.baggage = Baggage::default();
            trace::remove_baggage(&mut call.headers);
        }
        let answer = match locals.call(call) {
            Ok(answer) => answer.await,
            Err(call) => {
                let sent = tokio::time::timeout(self.timeout, self.over_network(call, locals.hops())).await;
                sent.unwrap_or(Err(CallError::TimedOut))?
            }
        };
        Ok(answer.map(|body| body.bounded(self.response_limit, self.idle_timeout)))
    }

    /// Sends one call and waits for its whole answer, which may have `response_body` bytes. `hold` is asked for room for
    /// each part of it.
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

    async fn over_network(&self, call: Call, hops: u32) -> Result<Response<Body>, CallError> {
        let Call { method, uri, origin, mut headers, body, context, baggage } = call;
        self.propagators.inject(&context, Some(&baggage), &mut headers);
        hops::tell(hops, &origin, &mut headers);
        headers.remove(http::header::HOST);
        let request = self.network.request(method, uri.to_string()).headers(headers).body(network_body(body));
        let response: Response<reqwest::Body> = request.send().await.map_err(network_error)?.into();
        let (parts, body) = response.into_parts();
        let mut answer = Response::new(Body::from_transport(body));
        *answer.status_mut() = parts.status;
        *answer.version_mut() = parts.version;
        *answer.headers_mut() = parts.headers;
        header_rules::remove_nominated(answer.headers_mut());
        Ok(answer)
    }
}

fn of_body(error: BodyError, limit: usize) -> CallError {
    match error {
        BodyError::TooLarge(_) => CallError::TooLarge(limit),
        BodyError::Paused(_) => CallError::TimedOut,
        other => CallError::Unreachable(other.to_string()),
    }
}

fn network_body(body: Body) -> reqwest::Body {
    match body {
        Body::Whole(bytes) => bytes.into(),
        stream => reqwest::Body::wrap(SyncBody(Mutex::new(stream))),
    }
}

/// A body that the network client may share between threads, as it asks for. Nobody ever waits for the lock.
struct SyncBody(Mutex<Body>);

impl HttpBody for SyncBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// The client for calls that leave the host: pooled connections, no redirects and no proxies, because where a guest's
/// request goes is for the manifest alone to say.
pub fn network() -> Result<reqwest::Client, reqwest::Error> {
    // The first caller decides for the process; that another one was there before is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(64)
        .http2_max_header_list_size(FIELDS_LIMIT as u32)
        .build()
}

/// reqwest says only that sending failed; the reason is at the end of the chain.
fn network_error(error: reqwest::Error) -> CallError {
    if error.is_timeout() {
        return CallError::TimedOut;
    }
    CallError::Unreachable(trace::innermost(&error))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::config;

    /// Serves every origin, and remembers the fields that arrived.
    #[derive(Default)]
    struct Everywhere(Mutex<Vec<HeaderMap>>);

    impl LocalCalls for Everywhere {
        fn call(&self, call: Call) -> Result<BoxFuture<'static, Response<Body>>, Call> {
            self.0.lock().unwrap().push(call.headers);
            Ok(Box::pin(std::future::ready(Response::default())))
        }

        fn hops(&self) -> u32 {
            1
        }
    }

    /// Answers every call with so many bytes.
    struct Answers(usize);

    impl LocalCalls for Answers {
        fn call(&self, _: Call) -> Result<BoxFuture<'static, Response<Body>>, Call> {
            let body = Body::Whole(vec![0; self.0].into());
            Ok(Box::pin(std::future::ready(Response::new(body))))
        }

        fn hops(&self) -> u32 {
            1
        }
    }

    #[tokio::test]
    async fn the_body_of_an_answer_ends_at_the_callers_limit() {
        let uri: Uri = "http://a.example/".parse().unwrap();
        let origin = Origin::of(&uri).unwrap();
        let config = config::OutboundConfig { allow: vec![origin.clone()], no_baggage: Vec::new() };
        let limits = config::Limits { response_body: 10, ..config::Limits::default() };
        let outbound = Outbound::new(&config, &limits, Propagators::new(&[]), network().unwrap());
        for (size, expected) in [(10, Ok(10)), (11, Err(BodyError::TooLarge(10)))] {
            let call = Call {
                method: Method::GET,
                uri: uri.clone(),
                origin: origin.clone(),
                headers: HeaderMap::new(),
                body: Body::empty(),
                context: TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
                    .unwrap(),
                baggage: Baggage::default(),
            };
            let answer = outbound.send(call, Arc::new(Answers(size))).await.unwrap();
            assert_eq!(answer.into_body().collect().await.map(|body| body.len()), expected, "{size} bytes");
        }
    }

    #[tokio::test]
    async fn a_guests_own_baggage_stays_at_home_too_whatever_formats_are_in_use() {
        let uri: Uri = "http://a.example/".parse().unwrap();
        let origin = Origin::of(&uri).unwrap();
        for no_baggage in [Vec::new(), vec![origin.clone()]] {
            let kept = no_baggage.is_empty();
            let config = config::OutboundConfig { allow: vec![origin.clone()], no_baggage };
            let propagators = Propagators::new(&[]);
            let outbound = Outbound::new(&config, &config::Limits::default(), propagators, network().unwrap());
            let headers = HeaderMap::from_iter([(HeaderName::from_static("baggage"), HeaderValue::from_static("a=1"))]);
            let call = Call {
                method: Method::GET,
                uri: uri.clone(),
                origin: origin.clone(),
                headers,
                body: Body::empty(),
                context: TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
                    .unwrap(),
                baggage: Baggage::default(),
            };
            let everywhere = Arc::new(Everywhere::default());
            outbound.send(call, everywhere.clone()).await.unwrap();
            assert_eq!(everywhere.0.lock().unwrap()[0].contains_key("baggage"), kept);
        }
    }
}

//! An in-memory host for native tests of handlers.
//!
//! ```
//! # mod demo {
//! #     use guest::Router;
//! #     guest::serve!(routes);
//! #     fn routes() -> Router { Router::new().get("/health", guest::healthy) }
//! # }
//! # use demo::service;
//! let host = guest::testing::Host::new(service());
//! let answer = host.get("/health");
//! assert_eq!(answer.status(), 200);
//! ```
//!
//! It uses the host's own route matching, so an unknown path gets 404 and a wrong method 405, and it denies calls to
//! URLs without a mock response. It has no timeouts and no limits.

mod responses;

use std::marker::PhantomData;

use serde_json::Value;
use spandrel_routes::{Match, Route, RouteTable};

pub use self::responses::Responses;
use crate::host::{self, Header, with_state};
pub use crate::host::{Call, CallMatcher, LogRecord, SpanKind, SpanRecord};
use crate::{Method, Response, Service, client};

/// An in-memory host with one service, for the current thread. A new host resets the state of the previous one.
#[derive(Debug)]
pub struct Host {
    service: &'static Service,
    routes: RouteTable,
    /// The state is thread-local, so a host must not move to another thread.
    _thread: PhantomData<*const ()>,
}

impl Host {
    /// A host for `service`, with empty state.
    ///
    /// # Panics
    /// If the routes of the service are invalid, in which case the real host would reject it.
    pub fn new(service: &'static Service) -> Self {
        with_state(|state| *state = host::State::default());
        Self { service, routes: table(service), _thread: PhantomData }
    }

    /// Sets a configuration value.
    #[must_use]
    pub fn with_config(self, key: &str, value: &str) -> Self {
        with_state(|state| state.config.insert(key.to_owned(), value.to_owned()));
        self
    }

    /// Sets the mock response of matching calls: a response or an error, or a sequence of them.
    ///
    /// ```
    /// # mod demo {
    /// #     use guest::Router;
    /// #     guest::serve!(routes);
    /// #     fn routes() -> Router { Router::new().get("/health", guest::healthy) }
    /// # }
    /// # use demo::service;
    /// use guest::testing::Host;
    /// use guest::{Method, Response, client};
    ///
    /// let picture = Response::new(200).with_header("content-type", "image/png").with_body(*b"\x89PNG");
    /// let host = Host::new(service())
    ///     .with_responses("http://pictures/1", picture)
    ///     .with_responses((Method::Post, "http://bank/payments"), [Response::new(503), Response::new(201)])
    ///     .with_responses("http://bank/payments", client::Error::TimedOut);
    /// ```
    #[must_use]
    pub fn with_responses(self, calls: impl Into<CallMatcher>, responses: impl Into<Responses>) -> Self {
        with_state(|state| state.mock_responses.add(calls.into(), responses.into().0));
        self
    }

    /// Sets a JSON mock response of matching calls.
    #[must_use]
    pub fn with_json_response(self, calls: impl Into<CallMatcher>, status: u16, body: &Value) -> Self {
        let response = Response::new(status).with_header("content-type", "application/json");
        self.with_responses(calls, response.with_body(body.to_string()))
    }

    /// Makes matching calls fail with `error`.
    #[must_use]
    pub fn with_failure(self, calls: impl Into<CallMatcher>, error: client::Error) -> Self {
        self.with_responses(calls, error)
    }

    /// Stores a value in a bucket.
    #[must_use]
    pub fn with_value(self, bucket: &str, key: &str, value: &[u8]) -> Self {
        with_state(|state| state.buckets.insert((bucket.to_owned(), key.to_owned()), value.to_vec()));
        self
    }

    /// Records no spans from here on, like a host that does not sample the request.
    #[must_use]
    pub fn without_recording(self) -> Self {
        with_state(|state| state.recording = false);
        self
    }

    /// Sends GET to a path, with an optional query.
    pub fn get(&self, target: &str) -> Response {
        self.send(Method::Get, target, &[], b"")
    }

    /// Sends POST without a body.
    pub fn post(&self, target: &str) -> Response {
        self.send(Method::Post, target, &[], b"")
    }

    /// Sends a request. Header names must be lower case, as the real host passes them.
    pub fn send(&self, method: Method, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let (route, params) = match self.routes.find(&method.into(), path) {
            Match::Found { index, params } => (index, params),
            Match::WrongMethod(allowed) => {
                let allowed: Vec<_> = allowed.into_iter().collect();
                return Response::new(405).with_header("allow", allowed.join(", "));
            }
            Match::NotFound => return Response::new(404),
        };
        let header =
            |(name, value): &(&str, &str)| Header { name: (*name).to_owned(), value: value.as_bytes().to_vec() };
        let request = host::Request {
            route,
            params,
            query: query.map(str::to_owned),
            headers: headers.iter().map(header).collect(),
            body: body.to_vec(),
        };
        let response = Response::from(self.service.handle(request));
        if method == Method::Head { response.with_body("") } else { response }
    }

    /// The value of a key in a bucket.
    pub fn value(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        with_state(|state| state.buckets.get(&(bucket.to_owned(), key.to_owned())).cloned())
    }

    /// What the service has recorded on the request's server span. The real host adds attributes of its own.
    pub fn server_span(&self) -> SpanRecord {
        with_state(|state| state.server.clone())
    }

    /// All spans, in the order in which they were started.
    pub fn spans(&self) -> Vec<SpanRecord> {
        with_state(|state| state.spans.clone())
    }

    /// The first span with this name.
    pub fn span(&self, name: &str) -> Option<SpanRecord> {
        self.spans().into_iter().find(|span| span.name == name)
    }

    /// The spans and then the calls as `parent > child`, in the order in which they were started.
    pub fn tree(&self) -> Vec<String> {
        let line = |parent: Option<String>, name: &str| format!("{} > {name}", parent.as_deref().unwrap_or("SERVER"));
        let spans = self.spans().into_iter().map(|span| line(span.parent, &span.name));
        let calls = self
            .calls()
            .into_iter()
            .map(|call| line(call.parent, &format!("{} {}", http::Method::from(call.method), call.url)));
        spans.chain(calls).collect()
    }

    /// All log records, in order.
    pub fn logs(&self) -> Vec<LogRecord> {
        with_state(|state| state.logs.clone())
    }

    /// All calls to other services, in order.
    pub fn calls(&self) -> Vec<Call> {
        with_state(|state| state.calls.clone())
    }

    /// The value of a counter of the service, for these labels.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        with_state(|state| state.counters.get(&series(name, labels)).copied().unwrap_or_default())
    }

    /// The values that a histogram of the service has recorded for these labels, in order.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        with_state(|state| state.histograms.get(&series(name, labels)).cloned().unwrap_or_default())
    }

    /// The number of calls to the host that started, changed or ended a span.
    pub fn span_calls(&self) -> usize {
        with_state(|state| state.span_calls)
    }
}

fn series(name: &str, labels: &[(&str, &str)]) -> host::Series {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    (name.to_owned(), labels.iter().map(owned).collect())
}

#[expect(clippy::panic, reason = "a test whose service no host would run has failed")]
fn table(service: &Service) -> RouteTable {
    let route = |route: host::Route| Route { method: Some(route.method.into()), template: route.path.into() };
    let routes = service.routes().into_iter().map(route).collect();
    RouteTable::new(routes).unwrap_or_else(|error| panic!("{error}"))
}

//! A small HTTP client that reads whole responses.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::TraceId;

/// How long a request may take unless a test says otherwise.
const ANSWER: Duration = Duration::from_secs(40);

/// Sends requests over pooled connections.
#[derive(Clone)]
pub struct Client(Pool<HttpConnector, Full<Bytes>>);

/// A request that has not been sent yet.
#[must_use]
pub struct Request {
    client: Client,
    head: http::request::Builder,
    body: Bytes,
    trace: Option<TraceId>,
    patience: Duration,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The protocol version.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: HeaderMap,
    /// The trace of the request, if it had one.
    pub trace: TraceId,
}

impl Default for Client {
    fn default() -> Client {
        Client(Pool::builder(TokioExecutor::new()).build_http())
    }
}

impl Client {
    /// A client that uses HTTP/2 with prior knowledge, without TLS.
    pub fn h2c() -> Client {
        Client(Pool::builder(TokioExecutor::new()).http2_only(true).build_http())
    }

    /// A request in a new trace of its own.
    pub fn request(&self, method: &str, address: SocketAddr, path: &str) -> Request {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        Request {
            client: self.clone(),
            head: http::Request::builder().method(method).uri(format!("http://{address}{path}")),
            body: Bytes::new(),
            trace: Some(TraceId::fresh()),
            patience: ANSWER,
        }
    }
}

impl Request {
    /// Adds a header field.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.head = self.head.header(name, value);
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Request {
        self.body = body.into();
        self
    }

    /// Sends no `traceparent`.
    pub fn untraced(mut self) -> Request {
        self.trace = None;
        self
    }

    /// Sends the request in this trace.
    pub fn in_trace(mut self, trace: &TraceId) -> Request {
        self.trace = Some(trace.clone());
        self
    }

    /// Sets the timeout.
    pub fn patience(mut self, patience: Duration) -> Request {
        self.patience = patience;
        self
    }

    /// Sends the request and reads the whole response. Panics if there is none.
    pub async fn send(self) -> Answer {
        self.try_send().await.unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Sends the request and reads the whole response.
    pub async fn try_send(self) -> Result<Answer, String> {
        tokio::time::timeout(self.patience, self.exchange()).await.unwrap_or_else(|_| Err("a hang".to_owned()))
    }

    /// Sends the request and reads the response until its body fails. Panics if there is no response, or a complete
    /// one.
    pub async fn send_incomplete(self) -> Answer {
        match tokio::time::timeout(self.patience, self.read()).await {
            Ok(Ok((answer, Some(_)))) => answer,
            Ok(Ok((answer, None))) => panic!("a complete answer: {answer:?}"),
            Ok(Err(error)) => panic!("no answer: {error}"),
            Err(_) => panic!("no answer: a hang"),
        }
    }

    async fn exchange(self) -> Result<Answer, String> {
        let (answer, error) = self.read().await?;
        error.map_or(Ok(answer), Err)
    }

    /// Sends the request and reads the response, up to the error of its body if it has one.
    async fn read(self) -> Result<(Answer, Option<String>), String> {
        let head = match &self.trace {
            Some(trace) => self.head.header("traceparent", trace.traceparent()),
            None => self.head,
        };
        let request = head.body(Full::new(self.body)).map_err(|error| error.to_string())?;
        let response = self.client.0.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (head, mut frames) = response.into_parts();
        let (mut body, mut trailers, mut failed) = (BytesMut::new(), HeaderMap::new(), None);
        while let Some(frame) = frames.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => body.extend_from_slice(&data),
                Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
                Err(error) => {
                    failed = Some(format!("{error:?}"));
                    break;
                }
            }
        }
        let trace = self.trace.unwrap_or_else(|| TraceId::from(""));
        let body = body.freeze();
        let answer =
            Answer { status: head.status, version: head.version, headers: head.headers, body, trailers, trace };
        Ok((answer, failed))
    }
}

impl Answer {
    /// The body as JSON. Panics if it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header field; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Panics unless the response is JSON with this status.
    #[track_caller]
    pub fn assert_json(&self, status: u16, expected: &Value) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.json(), *expected);
    }

    /// Panics unless the response is a problem with this status whose detail contains these words.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, words: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "no title: {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(words), "`{words}` is not in the detail of {problem}");
    }
}

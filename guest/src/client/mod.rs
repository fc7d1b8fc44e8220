//! Requests to other services. The host checks the origin against the allow list, records the client span under the current
//! `tracing` span, and propagates the trace context.

mod error;

use std::time::Duration;

use serde::Serialize;

pub use self::error::Error;
use crate::host::{self, FetchError, Header};
use crate::{Method, Response, spans};

/// A request that has not been sent yet.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    url: String,
    headers: Vec<Header>,
    body: Vec<u8>,
    timeout: Option<Duration>,
}

impl Request {
    /// A request without headers and body to an absolute URL.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url)
    }

    /// A POST request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::Post, url)
    }

    /// Adds a header field. The name is converted to lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header { name: name.to_ascii_lowercase(), value: value.into() });
        self
    }

    /// Sets the body's bytes.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to `value` as JSON, with its content type.
    ///
    /// # Errors
    /// If `value` cannot be serialized, such as a map whose keys are not strings.
    pub fn json(self, value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(self.header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// Sets a timeout, in whole milliseconds, after which the request fails with [`Error::TimedOut`]. Without it only the
    /// host's own limits apply.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request and waits for the response, whatever its status.
    ///
    /// # Errors
    /// If there is no response.
    pub fn send(&self) -> Result<Response, Error> {
        let headers: Vec<&Header> = self.headers.iter().collect();
        let outgoing = self.outgoing(&headers);
        let result = spans::with_current(|span| match self.timeout {
            Some(timeout) => host::fetch_within(outgoing, span, milliseconds(timeout)),
            None => host::fetch(outgoing, span),
        });
        result.map(Response::from).map_err(|error| Error::of(error, &self.url))
    }

    fn limited<'a>(&'a self, headers: &'a [&'a Header]) -> host::Limited<'a> {
        host::Limited { request: self.outgoing(headers), timeout_ms: self.timeout.map(milliseconds) }
    }

    fn outgoing<'a>(&'a self, headers: &'a [&'a Header]) -> host::Outgoing<'a> {
        host::Outgoing { method: self.method, url: &self.url, headers, body: &self.body }
    }
}

/// Sends a GET request and waits for the response, whatever its status.
///
/// # Errors
/// If there is no response.
pub fn get(url: impl Into<String>) -> Result<Response, Error> {
    Request::get(url).send()
}

/// Sends all requests concurrently and waits until each has its response or its error. Results come in the order of the
/// requests. The timeout of a request applies to that request alone.
pub fn send_all(requests: &[Request]) -> Vec<Result<Response, Error>> {
    let headers: Vec<Vec<&Header>> = requests.iter().map(|request| request.headers.iter().collect()).collect();
    let limited: Vec<_> = requests.iter().zip(&headers).map(|(request, headers)| request.limited(headers)).collect();
    let results = spans::with_current(|span| host::fetch_all_within(&limited, span));
    let result = |(request, result): (&Request, Result<host::Response, FetchError>)| {
        result.map(Response::from).map_err(|error| Error::of(error, &request.url))
    };
    requests.iter().zip(results).map(result).collect()
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

//! Errors as clients see them: `application/problem+json` (RFC 9457) with `status`, `title` and `detail`.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::spans::Failure;
use crate::{IntoResponse, Response, client, config, kv};

/// An answer that says what went wrong.
///
/// A problem with a status of 500 or more is a failure of the service: while it travels up the call stack, each span
/// that it leaves is marked as failed, with the status as `error.type` and the detail as the message. One that is
/// dropped on the way (because a fallback was found) marks only the spans that it had left by then.
#[derive(Debug)]
pub struct Problem {
    status: u16,
    detail: String,
    /// Kept for its drop: it ends the marking of spans.
    _failure: Option<Failure>,
}

impl Problem {
    /// A problem with this HTTP status and the words that tell a client what to do about it.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let failure = (status >= 500).then(|| Failure::travelling(status, &detail));
        Self { status, detail, _failure: failure }
    }

    /// 400: the request makes sense but cannot be granted.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, detail)
    }

    /// 404: there is nothing of that name.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, detail)
    }

    /// 422: a parameter or the body does not have the form it must have.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(422, detail)
    }

    /// 500: the service failed.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(500, detail)
    }

    /// A call to another service gave nothing to work with: 503 where nothing answered in time, else 502.
    pub fn upstream(service: &str, error: &client::Error) -> Self {
        let status = match error {
            client::Error::Unreachable(_) | client::Error::TimedOut => 503,
            _ => 502,
        };
        Self::new(status, format!("{service}: {error}"))
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What a client is told.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.status, title(self.status), self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<config::Error> for Problem {
    fn from(error: config::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<kv::Error> for Problem {
    fn from(error: kv::Error) -> Self {
        Self::internal(error.to_string())
    }
}

#[derive(Serialize)]
struct Body<'a> {
    status: u16,
    title: &'a str,
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body { status: self.status, title: title(self.status), detail: &self.detail };
        // Two strings and a number always serialise; an empty body would still carry the status.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        Response::new(self.status).with_header("content-type", "application/problem+json").with_body(body)
    }
}

/// The reason phrase of a status, or that of its class for those a service seldom answers.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        508 => "Loop Detected",
        _ if status >= 500 => "Server Error",
        _ => "Client Error",
    }
}

//! Error responses: `application/problem+json` (RFC 9457) with `status`, `title` and `detail`.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Display};

use serde::Serialize;

use crate::spans::{Exception, Failure};
use crate::{IntoResponse, Response, client, config, kv};

/// An error response.
///
/// A problem with a status code of 500 or more is a failure of the service: while it is returned up the call stack,
/// each span that ends is marked as failed, with the status code as `error.type` and the reason as the status
/// description. If the problem is dropped on the way (because a fallback was found), only the spans that ended before
/// are marked.
#[derive(Debug)]
pub struct Problem {
    status: u16,
    reason: Reason,
    /// Marks spans as failed until it is dropped.
    _failure: Option<Failure>,
}

/// The reason of a problem.
#[derive(Debug)]
enum Reason {
    /// Shown to the client.
    Detail(String),
    /// The invalid parts of the request, at least one.
    Invalid(Vec<Invalid>),
    /// Recorded in the trace and the log only.
    Cause(String),
}

/// A part of a request that is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// Its location: `path`, `query`, `header`, `cookie` or `body`.
    #[serde(rename = "in")]
    location: &'static str,
    /// Its name; `None` for the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What is wrong with it.
    detail: String,
    /// The detail with location and name.
    #[serde(skip)]
    message: String,
}

impl Invalid {
    pub(crate) fn parameter(location: &'static str, name: &str, detail: String) -> Self {
        let message = format!("{location} parameter `{name}`: {detail}");
        Self { location, name: Some(name.to_owned()), detail, message }
    }

    pub(crate) fn missing(location: &'static str, name: &str) -> Self {
        let message = format!("{location} parameter `{name}` is missing");
        Self { location, name: Some(name.to_owned()), detail: "is missing".to_owned(), message }
    }

    pub(crate) fn body(detail: String) -> Self {
        Self { location: "body", name: None, message: format!("request body: {detail}"), detail }
    }

    /// A field of the body, such as `lines[0].quantity`, and why it is invalid.
    pub fn field(name: impl Into<String>, detail: impl Into<String>) -> Self {
        let (name, detail) = (name.into(), detail.into());
        let message = format!("field `{name}`: {detail}");
        Self { location: "body", name: Some(name), detail, message }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid([invalid])
    }
}

impl Problem {
    /// A problem with this status code and a detail for the client.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let failure = (status >= 500).then(|| Failure::new(status, &detail));
        Self { status, reason: Reason::Detail(detail), _failure: failure }
    }

    /// 400: the request is valid but cannot be fulfilled.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, detail)
    }

    /// 404: the resource does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, detail)
    }

    /// 422: a parameter or the body is invalid.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(422, detail)
    }

    /// 422: these parts of the request are invalid. The response lists them in `errors`.
    ///
    /// [`all`](crate::all) collects the invalid parameters of a request.
    pub fn invalid(errors: impl IntoIterator<Item = Invalid>) -> Self {
        Self { status: 422, reason: Reason::Invalid(errors.into_iter().collect()), _failure: None }
    }

    /// The invalid parts, if they are the reason of the problem.
    pub(crate) fn into_invalid(self) -> Result<Vec<Invalid>, Self> {
        match self.reason {
            Reason::Invalid(errors) => Ok(errors),
            _ => Err(self),
        }
    }

    /// 500: an internal error.
    ///
    /// The error is recorded as an exception on the current span, and in the log. Clients see only the title of the
    /// status code. Accepts any error type, and strings.
    pub fn internal<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Self {
        let error = error.into();
        let exception = Exception::of::<E>(&*error);
        let failure = Failure::caused_by(500, &exception);
        Self { status: 500, reason: Reason::Cause(exception.message().to_owned()), _failure: Some(failure) }
    }

    /// A call to another service failed: 503 if it was unreachable or timed out, otherwise 502.
    pub fn upstream(service: &str, error: &client::Error) -> Self {
        let status = match error {
            client::Error::Unreachable(_) | client::Error::TimedOut => 503,
            _ => 502,
        };
        Self::new(status, format!("{service}: {error}"))
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The detail for the client; `None` for an internal error.
    pub fn detail(&self) -> Option<Cow<'_, str>> {
        match &self.reason {
            Reason::Detail(detail) => Some(Cow::Borrowed(detail)),
            Reason::Invalid(errors) => Some(Cow::Owned(messages(errors))),
            Reason::Cause(_) => None,
        }
    }
}

impl Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: ", self.status, title(self.status))?;
        match &self.reason {
            Reason::Detail(text) | Reason::Cause(text) => formatter.write_str(text),
            Reason::Invalid(errors) => formatter.write_str(&messages(errors)),
        }
    }
}

impl Error for Problem {}

impl From<config::Error> for Problem {
    fn from(error: config::Error) -> Self {
        Self::internal(error)
    }
}

impl From<kv::Error> for Problem {
    fn from(error: kv::Error) -> Self {
        Self::internal(error)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    status: u16,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "<[Invalid]>::is_empty")]
    errors: &'a [Invalid],
}

fn messages(errors: &[Invalid]) -> String {
    let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    messages.join("; ")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let errors = match &self.reason {
            Reason::Invalid(errors) => errors.as_slice(),
            _ => &[],
        };
        let body = Body { status: self.status, title: title(self.status), detail: self.detail(), errors };
        // Strings and a number always serialize; if they did not, an empty body would still have the status code.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        Response::new(self.status).with_header("content-type", "application/problem+json").with_body(body)
    }
}

/// The reason phrase of a status code, or of its class for rare ones.
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

//! Errors as clients see them: `application/problem+json` (RFC 9457) with `status`, `title` and `detail`.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Display};

use serde::Serialize;

use crate::spans::{Exception, Failure};
use crate::{IntoResponse, Response, client, config, kv};

/// An answer that says what went wrong.
///
/// A problem with a status of 500 or more is a failure of the service: while it travels up the call stack, each span
/// that it leaves is marked as failed, with the status as `error.type` and the reason as the message. One that is
/// dropped on the way (because a fallback was found) marks only the spans that it had left by then.
#[derive(Debug)]
pub struct Problem {
    status: u16,
    reason: Reason,
    /// Kept for its drop: it ends the marking of spans.
    _failure: Option<Failure>,
}

/// Why there is no better answer.
#[derive(Debug)]
enum Reason {
    /// For the client to read.
    Detail(String),
    /// Parts of the request do not have the form they must have. There is at least one.
    Invalid(Vec<Invalid>),
    /// For the trace and the log only.
    Cause(String),
}

/// One part of a request that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// Where it stands: `path`, `query`, `header`, `cookie` or `body`.
    #[serde(rename = "in")]
    place: &'static str,
    /// Its name there; none for a body as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What is wrong with it.
    detail: String,
    /// The same as a sentence of its own.
    #[serde(skip)]
    sentence: String,
}

impl Invalid {
    pub(crate) fn parameter(place: &'static str, name: &str, detail: String) -> Self {
        let sentence = format!("{place} parameter `{name}`: {detail}");
        Self { place, name: Some(name.to_owned()), detail, sentence }
    }

    pub(crate) fn missing(place: &'static str, name: &str) -> Self {
        let sentence = format!("{place} parameter `{name}` is missing");
        Self { place, name: Some(name.to_owned()), detail: "is missing".to_owned(), sentence }
    }

    pub(crate) fn body(detail: String) -> Self {
        Self { place: "body", name: None, sentence: format!("request body: {detail}"), detail }
    }

    /// A field of the body, such as `lines[0].quantity`, and what is wrong with it.
    pub fn field(name: impl Into<String>, detail: impl Into<String>) -> Self {
        let (name, detail) = (name.into(), detail.into());
        let sentence = format!("field `{name}`: {detail}");
        Self { place: "body", name: Some(name), detail, sentence }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid([invalid])
    }
}

impl Problem {
    /// A problem with this HTTP status and the words that tell a client what to do about it.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let failure = (status >= 500).then(|| Failure::new(status, &detail));
        Self { status, reason: Reason::Detail(detail), _failure: failure }
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

    /// 422: these parts of the request do not have the form they must have. The answer lists them all in `errors`.
    ///
    /// Parameters that are read together with [`all`](crate::all) make one by themselves.
    pub fn invalid(errors: impl IntoIterator<Item = Invalid>) -> Self {
        Self { status: 422, reason: Reason::Invalid(errors.into_iter().collect()), _failure: None }
    }

    /// The parts that are invalid, where that is what the problem is about.
    pub(crate) fn into_invalid(self) -> Result<Vec<Invalid>, Self> {
        match self.reason {
            Reason::Invalid(errors) => Ok(errors),
            _ => Err(self),
        }
    }

    /// 500: the service failed, for a reason that is none of the client's business.
    ///
    /// The error is recorded as an exception on the current span, and in the log. Clients see only the title of the
    /// status. Any error will do, and so will a text.
    pub fn internal<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Self {
        let error = error.into();
        let exception = Exception::of::<E>(&*error);
        let failure = Failure::caused_by(500, &exception);
        Self { status: 500, reason: Reason::Cause(exception.message().to_owned()), _failure: Some(failure) }
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

    /// What a client is told beside the title; nothing where the reason is an internal error.
    pub fn detail(&self) -> Option<Cow<'_, str>> {
        match &self.reason {
            Reason::Detail(detail) => Some(Cow::Borrowed(detail)),
            Reason::Invalid(errors) => Some(Cow::Owned(sentences(errors))),
            Reason::Cause(_) => None,
        }
    }
}

impl Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: ", self.status, title(self.status))?;
        match &self.reason {
            Reason::Detail(text) | Reason::Cause(text) => formatter.write_str(text),
            Reason::Invalid(errors) => formatter.write_str(&sentences(errors)),
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

fn sentences(errors: &[Invalid]) -> String {
    let sentences: Vec<_> = errors.iter().map(|error| error.sentence.as_str()).collect();
    sentences.join("; ")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let errors = match &self.reason {
            Reason::Invalid(errors) => errors.as_slice(),
            _ => &[],
        };
        let body = Body { status: self.status, title: title(self.status), detail: self.detail(), errors };
        // Texts and a number always serialise; an empty body would still carry the status.
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

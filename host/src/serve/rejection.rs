//! Converts causes to responses: every response that the host sends without the guest.
//!
//! Responses are problem details (RFC 9457). `error.type` has one of a short, fixed list of values; details are sent
//! only if the caller can act on them.

use std::collections::BTreeSet;
use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::component::Failure;
use crate::http::head::HeadError;
use crate::http::{Body, problem};
use crate::outbound::hops::HOP_BUDGET;
use crate::services::Outcome;

/// Why the host answers a request without the guest.
#[derive(Debug)]
pub enum Rejection {
    /// Its head is invalid.
    Head(HeadError),
    /// A CORS preflight from an origin that the service does not allow.
    ForeignPage,
    /// No route for this path.
    NotFound,
    /// The path has routes, but not for this method.
    MethodNotAllowed(BTreeSet<String>),
    /// The body is over `request_body` bytes.
    BodyTooLarge(usize),
    /// The client did not send its request in time.
    ClientTooSlow(Duration),
    /// The client's body was malformed.
    BrokenBody,
    /// The client disconnected before it had sent the whole body.
    ClientGone,
    /// The service has reached its `concurrency` limit.
    Busy,
    /// The service has reached its limit of buffered bytes of incomplete bodies.
    TooMuchWaiting,
    /// The request passed through too many services.
    LoopDetected,
    /// The guest failed to answer.
    Failed(Failure),
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Rejection {
        Rejection::Head(error)
    }
}

impl Rejection {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Rejection::Head(error) => error.status(),
            Rejection::ForeignPage => StatusCode::FORBIDDEN,
            Rejection::NotFound => StatusCode::NOT_FOUND,
            Rejection::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Rejection::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Rejection::ClientTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Rejection::BrokenBody | Rejection::ClientGone => StatusCode::BAD_REQUEST,
            Rejection::Busy | Rejection::TooMuchWaiting | Rejection::Failed(Failure::Saturated(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Rejection::LoopDetected => StatusCode::LOOP_DETECTED,
            Rejection::Failed(Failure::TimedOut) => StatusCode::GATEWAY_TIMEOUT,
            Rejection::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Who is responsible for the outcome.
    pub fn outcome(&self) -> Outcome {
        match self {
            Rejection::Failed(Failure::Saturated(_)) => Outcome::HostRefusal,
            Rejection::Failed(_) => Outcome::GuestFault,
            _ => Outcome::HostRefusal,
        }
    }

    /// The value of `error.type`, for server errors and for invalid heads.
    pub fn error_type(&self) -> Option<&'static str> {
        match self {
            Rejection::Head(error) => Some(error.error_type()),
            Rejection::Busy => Some("concurrency_limit"),
            Rejection::TooMuchWaiting => Some("waiting_bodies"),
            Rejection::LoopDetected => Some("loop_detected"),
            Rejection::Failed(failure) => Some(failure.error_type()),
            _ => None,
        }
    }

    /// The detail of the response.
    pub fn detail(&self) -> String {
        match self {
            Rejection::Head(error) => error.to_string(),
            Rejection::ForeignPage => "This service does not answer pages of this origin".to_owned(),
            Rejection::NotFound => "No route of this service matches the path".to_owned(),
            Rejection::MethodNotAllowed(allowed) => format!("This path answers {}", join(allowed)),
            Rejection::BodyTooLarge(limit) => format!("The request body is larger than {limit} bytes"),
            Rejection::ClientTooSlow(limit) => format!("The request did not arrive within {limit:?}"),
            Rejection::BrokenBody => "The request body was malformed".to_owned(),
            Rejection::ClientGone => "The request body broke off".to_owned(),
            Rejection::Busy => "The service is at its limit of concurrent requests".to_owned(),
            Rejection::TooMuchWaiting => "The service is receiving too many request bodies at once".to_owned(),
            Rejection::LoopDetected => format!("The request went through more than {HOP_BUDGET} services"),
            Rejection::Failed(Failure::Trapped(_)) => "The service failed while it handled the request".to_owned(),
            Rejection::Failed(Failure::TimedOut) => "The service did not answer in time".to_owned(),
            Rejection::Failed(Failure::Saturated(_)) => "The host has no room for another instance".to_owned(),
            Rejection::Failed(Failure::InvalidResponse(reason)) => {
                format!("The service answered with something that is no HTTP response: {reason}")
            }
            Rejection::Failed(Failure::NoResponse) => "The service ended without a response".to_owned(),
            Rejection::Failed(Failure::ErrorCode(_)) => "The service gave an error in place of a response".to_owned(),
            Rejection::Failed(Failure::ResponseTooLarge { size }) => {
                format!("The service's answer of {size} bytes is over its limit")
            }
        }
    }

    /// The complete response.
    pub fn response(&self) -> Response<Body> {
        let status = self.status();
        let mut response = problem(status, &self.detail()).map(Body::Whole);
        let headers = response.headers_mut();
        if let Rejection::MethodNotAllowed(allowed) = self
            && let Ok(allowed) = HeaderValue::from_str(&join(allowed))
        {
            headers.insert(ALLOW, allowed);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

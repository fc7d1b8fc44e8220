//! From a cause to a response, in one place: every answer that the host gives to a request in a guest's stead.
//!
//! Answers are problem details (RFC 9457). The value of `error.type` is one of a short, fixed list; what is wrong in
//! detail goes to the caller only where the caller can do something about it.

use std::collections::BTreeSet;
use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::component::Failure;
use crate::http::head::HeadError;
use crate::http::{Body, problem};
use crate::outbound::hops::HOP_BUDGET;
use crate::services::Outcome;

/// Why the host answers a request by itself.
#[derive(Debug)]
pub enum Rejection {
    /// Its head is not one to serve.
    Head(HeadError),
    /// A page of an origin that the service does not answer asks for leave.
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
    /// The client went away before it had sent the whole body.
    ClientGone,
    /// As many requests are being served as `concurrency` allows.
    Busy,
    /// The bodies that are still being read fill the room that the service has for them.
    TooMuchWaiting,
    /// The request went through too many services.
    LoopDetected,
    /// The guest gave no answer.
    Failed(Failure),
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Rejection {
        Rejection::Head(error)
    }
}

impl Rejection {
    /// The status of the answer.
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

    /// Whose doing it is that the request got no answer of the guest.
    pub fn outcome(&self) -> Outcome {
        match self {
            Rejection::Failed(Failure::Saturated(_)) => Outcome::HostRefusal,
            Rejection::Failed(_) => Outcome::GuestFault,
            _ => Outcome::HostRefusal,
        }
    }

    /// The value of `error.type`, for the answers that are the server's fault and for heads that are none to serve.
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

    /// What the answer says in detail.
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

    /// The whole answer.
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

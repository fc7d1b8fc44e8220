//! The reasons for which the host answers a request without the guest, and their responses.
//!
//! Responses are problem details (RFC 9457). `error.type` has one of a short, fixed list of values. The response gives
//! details only if the caller can act on them.

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
    /// The request head is invalid.
    Head(HeadError),
    /// A CORS preflight from an origin that the service does not allow.
    CorsDenied,
    /// No route matches the path.
    NotFound,
    /// Routes match the path, but none has this method. The methods of those routes.
    MethodNotAllowed(BTreeSet<String>),
    /// The body is larger than `request_body`, in bytes.
    BodyTooLarge(usize),
    /// The client did not send its request within this time.
    RequestTimeout(Duration),
    /// The request body was malformed.
    MalformedBody,
    /// The client disconnected before it sent the whole body.
    ClientDisconnected,
    /// The service has reached its `concurrency` limit.
    ConcurrencyLimit,
    /// The service has reached its limit of buffered bytes of incomplete request bodies.
    BufferLimit,
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
            Rejection::CorsDenied => StatusCode::FORBIDDEN,
            Rejection::NotFound => StatusCode::NOT_FOUND,
            Rejection::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Rejection::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Rejection::RequestTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Rejection::MalformedBody | Rejection::ClientDisconnected => StatusCode::BAD_REQUEST,
            Rejection::ConcurrencyLimit | Rejection::BufferLimit | Rejection::Failed(Failure::Saturated(_)) => {
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
            Rejection::Failed(Failure::Saturated(_)) => Outcome::HostRejection,
            Rejection::Failed(_) => Outcome::GuestFault,
            _ => Outcome::HostRejection,
        }
    }

    /// The value of `error.type`, for server errors and for invalid heads.
    pub fn error_type(&self) -> Option<&'static str> {
        match self {
            Rejection::Head(error) => Some(error.error_type()),
            Rejection::ConcurrencyLimit => Some("concurrency_limit"),
            Rejection::BufferLimit => Some("waiting_bodies"),
            Rejection::LoopDetected => Some("loop_detected"),
            Rejection::Failed(failure) => Some(failure.error_type()),
            _ => None,
        }
    }

    /// The detail of the response.
    pub fn detail(&self) -> String {
        match self {
            Rejection::Head(error) => error.to_string(),
            Rejection::CorsDenied => "The CORS configuration of this service does not allow this origin".to_owned(),
            Rejection::NotFound => "No route of this service matches the path".to_owned(),
            Rejection::MethodNotAllowed(allowed) => format!("This path allows {}", join(allowed)),
            Rejection::BodyTooLarge(limit) => format!("The request body is larger than {limit} bytes"),
            Rejection::RequestTimeout(limit) => format!("The request did not arrive within {limit:?}"),
            Rejection::MalformedBody => "The request body was malformed".to_owned(),
            Rejection::ClientDisconnected => "The request body ended early".to_owned(),
            Rejection::ConcurrencyLimit => "The service is at its limit of concurrent requests".to_owned(),
            Rejection::BufferLimit => "The service is receiving too many request bodies at once".to_owned(),
            Rejection::LoopDetected => format!("The request passed through more than {HOP_BUDGET} services"),
            Rejection::Failed(Failure::Trapped(_)) => "The service failed while it handled the request".to_owned(),
            Rejection::Failed(Failure::TimedOut) => "The service did not answer in time".to_owned(),
            Rejection::Failed(Failure::Saturated(_)) => "No instance of the service could be created".to_owned(),
            Rejection::Failed(Failure::InvalidResponse(reason)) => {
                format!("The service returned an invalid HTTP response: {reason}")
            }
            Rejection::Failed(Failure::NoResponse) => "The service ended without a response".to_owned(),
            Rejection::Failed(Failure::ErrorCode(_)) => {
                "The service returned an error instead of a response".to_owned()
            }
            Rejection::Failed(Failure::ResponseTooLarge { size }) => {
                format!("The service's response of {size} bytes or more exceeds its limit")
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

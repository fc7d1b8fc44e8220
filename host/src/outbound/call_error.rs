//! Why a call of a guest got no answer.

use std::net::IpAddr;

use thiserror::Error;

use crate::config::Origin;

/// Why a call got no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CallError {
    /// The manifest does not list the origin under `[service.outbound]`.
    #[error("the manifest does not allow calls to {0}")]
    Denied(Origin),
    /// Only a wildcard allows the origin, which is at an address that is not public.
    #[error("a wildcard of the manifest allows calls to public addresses only; {0} is at {1}")]
    NotPublic(Origin, IpAddr),
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
            CallError::Denied(_) | CallError::NotPublic(..) => "denied",
            CallError::InvalidUrl(_) => "invalid_url",
            CallError::Unreachable(_) => "unreachable",
            CallError::TimedOut => "timeout",
            CallError::TooLarge(_) => "response_too_large",
            CallError::NoRoom => "memory_limit",
        }
    }
}

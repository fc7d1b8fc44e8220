//! Why an outbound call of a guest failed.

use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

use crate::config::Origin;

/// Why a call failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CallError {
    /// The manifest does not list the origin under `[service.outbound]`.
    #[error("the manifest does not allow calls to {0}")]
    Denied(Origin),
    /// Only a wildcard allows the origin, and its address is not public.
    #[error("the manifest allows {0} by a wildcard, which covers public addresses only; its address is {1}")]
    NotPublic(Origin, IpAddr),
    /// The URL is not an absolute http or https URL.
    #[error("{0}")]
    InvalidUrl(String),
    /// The connection could not be established, or was lost.
    #[error("{reason}")]
    Unreachable {
        /// What failed.
        failure: ConnectionFailure,
        /// The cause, as text.
        reason: String,
    },
    /// The connection was not established within this time.
    #[error("no connection was established within {0:?}")]
    ConnectTimedOut(Duration),
    /// The response did not arrive in time.
    #[error("the response did not arrive in time")]
    TimedOut,
    /// The response exceeds the caller's `response_body`.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
    /// The call or its response exceeds the caller's memory limit.
    #[error("the call and its response exceed the memory limit of the service")]
    MemoryLimit,
}

/// What failed about a connection. Only after [`Protocol`](Self::Protocol) may the server have received the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionFailure {
    /// The name does not resolve.
    Name,
    /// The connection was not established.
    NotConnected,
    /// The server's certificate is not valid.
    Certificate,
    /// TLS could not be established for another reason.
    Tls,
    /// The connection ended before a response, or carried no HTTP.
    Protocol,
}

impl CallError {
    /// The value of `error.type` on the client span.
    pub fn error_type(&self) -> &'static str {
        match self {
            CallError::Denied(_) | CallError::NotPublic(..) => "denied",
            CallError::InvalidUrl(_) => "invalid_url",
            CallError::Unreachable { .. } => "unreachable",
            CallError::ConnectTimedOut(_) | CallError::TimedOut => "timeout",
            CallError::TooLarge(_) => "response_too_large",
            CallError::MemoryLimit => "memory_limit",
        }
    }
}

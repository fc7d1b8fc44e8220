//! A pending call of a lean guest to another service.

use std::time::Instant;

use http::Method;

use crate::config::Origin;
use crate::trace::SpanRef;

/// A pending call and its client span.
pub(crate) struct ClientCall {
    pub span: SpanRef,
    pub method: Method,
    /// `None` if the URL is invalid.
    pub origin: Option<Origin>,
    pub began: Instant,
}

//! A call to another service that a guest has under way.

use std::time::Instant;

use http::Method;

use crate::config::Origin;
use crate::trace::SpanRef;

/// A call that is under way, and the client span that stands for it.
pub(crate) struct ClientCall {
    pub span: SpanRef,
    pub method: Method,
    /// None where the URL was none.
    pub origin: Option<Origin>,
    pub began: Instant,
}

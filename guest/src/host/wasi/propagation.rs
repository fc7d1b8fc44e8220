//! The trace context of the incoming request. If the component has no spans of its own, the context is sent unchanged
//! with its calls to other services.

use std::cell::RefCell;

use crate::host::Header;

/// The header fields of W3C Trace Context and W3C Baggage.
const CONTEXT_FIELDS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

thread_local! {
    static INCOMING: RefCell<Vec<Header>> = RefCell::default();
}

/// Keeps the context from the header fields of a request.
pub fn begin(headers: &[Header]) {
    let fields = headers.iter().filter(|header| CONTEXT_FIELDS.contains(&header.name.as_str()));
    INCOMING.set(fields.cloned().collect());
}

/// The context fields of the incoming request.
pub fn incoming() -> Vec<Header> {
    INCOMING.with_borrow(Clone::clone)
}

//! The trace context that a request came with. Where the component has no spans of its own, it goes along with the
//! requests to other services as it is.

use std::cell::RefCell;

use crate::host::Header;

/// The fields of W3C Trace Context and W3C Baggage.
const FIELDS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

thread_local! {
    static INHERITED: RefCell<Vec<Header>> = RefCell::default();
}

/// Takes the context out of the header fields of a request.
pub fn begin(headers: &[Header]) {
    let fields = headers.iter().filter(|header| FIELDS.contains(&header.name.as_str()));
    INHERITED.set(fields.cloned().collect());
}

/// The fields that the request came with.
pub fn inherited() -> Vec<Header> {
    INHERITED.with_borrow(Clone::clone)
}

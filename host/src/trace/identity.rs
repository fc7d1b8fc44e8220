//! Random trace and span ids. All 56 low bits of a trace id are random, as W3C Trace Context Level 2 asks.

use opentelemetry::trace::{SpanId, TraceId};

pub(super) fn trace_id() -> TraceId {
    loop {
        let id = TraceId::from(fastrand::u128(..));
        if id != TraceId::INVALID {
            return id;
        }
    }
}

pub(super) fn span_id() -> SpanId {
    loop {
        let id = SpanId::from(fastrand::u64(..));
        if id != SpanId::INVALID {
            return id;
        }
    }
}

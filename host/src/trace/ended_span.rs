//! A span that a guest measured by itself and hands over when it has ended.

use std::time::SystemTime;

use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::segment::Status;

/// A span with everything that is known of it. Attributes and events are lent to whoever writes them down.
pub struct EndedSpan<A, E, L> {
    /// Its id, which its children name.
    pub span_id: SpanId,
    /// Its parent.
    pub parent: SpanId,
    /// Its name.
    pub name: String,
    /// What it stands for.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// Its attributes.
    pub attributes: A,
    /// Attributes that the guest's own limits cost.
    pub dropped_attributes: u32,
    /// What happened during it.
    pub events: E,
    /// Events that the guest's own limits cost.
    pub dropped_events: u32,
    /// Other spans that it has to do with.
    pub links: L,
    /// Links that the guest's own limits cost.
    pub dropped_links: u32,
    /// How it ended.
    pub status: Status,
}

/// A span that such a span has to do with.
pub struct EndedSpanLink<A> {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Its `tracestate`.
    pub state: String,
    /// More about the relation.
    pub attributes: A,
}

/// Something that happened during such a span.
pub struct EndedSpanEvent<A> {
    /// What happened.
    pub name: String,
    /// When.
    pub time: SystemTime,
    /// More about it.
    pub attributes: A,
}

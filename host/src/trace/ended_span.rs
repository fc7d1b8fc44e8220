//! A span that a guest's own SDK has recorded and passes to the host when it has ended.

use std::time::SystemTime;

use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::otlp::Attribute;
use super::segment::Status;

/// A complete span. Attributes, events and links are iterators, so that the recorder encodes them without a copy.
pub struct EndedSpan<'a, A, E, L> {
    /// The span id, which its children refer to. `None`: a new one.
    pub span_id: Option<SpanId>,
    /// The parent span.
    pub parent: SpanId,
    /// The name.
    pub name: String,
    /// The span kind.
    pub kind: SpanKind,
    /// The start time.
    pub start: SystemTime,
    /// The end time.
    pub end: SystemTime,
    /// The attributes.
    pub attributes: A,
    /// The attributes that the host adds, which do not count toward the limit of attributes.
    pub host_attributes: Vec<Attribute<'a>>,
    /// The number of attributes that the guest's SDK has dropped.
    pub dropped_attributes: u32,
    /// The events.
    pub events: E,
    /// The number of events that the guest's SDK has dropped.
    pub dropped_events: u32,
    /// The links to other spans.
    pub links: L,
    /// The number of links that the guest's SDK has dropped.
    pub dropped_links: u32,
    /// The status.
    pub status: Status,
}

/// A link of such a span.
pub struct EndedSpanLink<A> {
    /// The linked trace.
    pub trace_id: TraceId,
    /// The linked span.
    pub span_id: SpanId,
    /// The `tracestate` of the linked span.
    pub state: String,
    /// The attributes of the link.
    pub attributes: A,
}

/// An event of such a span.
pub struct EndedSpanEvent<A> {
    /// The name.
    pub name: String,
    /// The time.
    pub time: SystemTime,
    /// The attributes.
    pub attributes: A,
}

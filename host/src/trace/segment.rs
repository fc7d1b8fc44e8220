//! The recorded data: spans and log records, and the segment that holds those of one request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::otlp::Attributes;
use super::resource::Resource;

/// A span within one recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanRef(u32);

impl SpanRef {
    /// No span. Operations on it have no effect.
    pub const NONE: SpanRef = SpanRef(u32::MAX);

    /// The span at a position. A position without a span counts as no span.
    pub fn from_index(index: u32) -> SpanRef {
        SpanRef(index)
    }

    /// Its position in the recorder.
    pub fn index(self) -> u32 {
        self.0
    }
}

/// The status of a span.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Status {
    /// Unset: no status was set.
    #[default]
    Unset,
    /// Ok: the guest has marked the span as successful.
    Ok,
    /// Error, with a description.
    Error(String),
}

/// A span event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The name.
    pub name: Cow<'static, str>,
    /// The time.
    pub time: SystemTime,
    /// The attributes.
    pub attributes: Attributes,
    /// The number of attributes dropped because of the limit.
    pub dropped_attributes: u32,
}

/// One finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// The span id.
    pub span_id: SpanId,
    /// The parent span, possibly in another process; invalid for a root.
    pub parent: SpanId,
    /// Whether the parent is in another process.
    pub parent_is_remote: bool,
    /// The name.
    pub name: Cow<'static, str>,
    /// The span kind.
    pub kind: SpanKind,
    /// The start time.
    pub start: SystemTime,
    /// The duration.
    pub duration: Duration,
    /// The span's own attributes. Those shared by the whole segment are in the segment.
    pub attributes: Attributes,
    /// The number of attributes dropped because of the limit.
    pub dropped_attributes: u32,
    /// The events.
    pub events: Vec<Event>,
    /// The number of events dropped because of the limit.
    pub dropped_events: u32,
    /// The links to other spans.
    pub links: Vec<Link>,
    /// The number of links dropped because of the limit.
    pub dropped_links: u32,
    /// The status.
    pub status: Status,
}

/// A span link, possibly to another trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The linked trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// The `tracestate` of the linked span.
    pub state: String,
    /// The attributes of the link.
    pub attributes: Attributes,
    /// The number of attributes dropped because of the limit.
    pub dropped_attributes: u32,
}

/// The severity of a log record, as in the OpenTelemetry log data model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Fine-grained debugging.
    Trace,
    /// Debugging.
    Debug,
    /// An informational event.
    Info,
    /// A warning: not an error, but more important than an informational event.
    Warn,
    /// An error.
    Error,
    /// A fatal error.
    Fatal,
}

impl Severity {
    /// `SeverityNumber` of the OpenTelemetry log data model.
    pub fn number(self) -> i32 {
        match self {
            Severity::Trace => 1,
            Severity::Debug => 5,
            Severity::Info => 9,
            Severity::Warn => 13,
            Severity::Error => 17,
            Severity::Fatal => 21,
        }
    }

    /// `SeverityText`.
    pub fn text(self) -> &'static str {
        match self {
            Severity::Trace => "TRACE",
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// A log record that belongs to a span.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// The time.
    pub time: SystemTime,
    /// The severity.
    pub severity: Severity,
    /// The body.
    pub body: String,
    /// The attributes.
    pub attributes: Attributes,
    /// The number of attributes dropped because of the limit.
    pub dropped_attributes: u32,
    /// The span.
    pub span_id: SpanId,
}

/// The records of one request at one service: the unit that goes through the queues and that all readers share.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The service.
    pub resource: Arc<Resource>,
    /// The trace.
    pub trace_id: TraceId,
    /// Whether the trace is sampled. Log records are kept even if it is not.
    pub sampled: bool,
    /// `tracestate`.
    pub state: Option<Arc<str>>,
    /// The spans. The first one is the server span; the others come after their parents.
    pub spans: Vec<Span>,
    /// The attributes of every span and log record.
    pub shared: Attributes,
    /// Log records.
    pub logs: Vec<LogRecord>,
}

impl Segment {
    /// A segment without records.
    pub(super) fn empty(resource: Arc<Resource>, trace_id: TraceId) -> Segment {
        let (spans, shared, logs) = (Vec::new(), Attributes::default(), Vec::new());
        Segment { resource, trace_id, sampled: false, state: None, spans, shared, logs }
    }

    /// The server span.
    pub fn root(&self) -> Option<&Span> {
        self.spans.first()
    }

    /// Whether the request came from another process, so that the local part of the trace ends with it.
    pub fn is_local_root(&self) -> bool {
        self.root().is_none_or(|root| root.parent == SpanId::INVALID || root.parent_is_remote)
    }

    /// Whether a span has failed.
    pub fn has_error(&self) -> bool {
        self.spans.iter().any(|span| matches!(span.status, Status::Error(_)))
    }
}

/// A finished segment on its way to the readers of segments.
#[derive(Clone, Debug)]
pub(super) struct FinishedSegment {
    pub segment: Arc<Segment>,
    /// The number of spans that it counts as where memory is bounded by a number of spans.
    pub weight: usize,
}

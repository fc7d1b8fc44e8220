//! What is recorded: spans and log records, and the segment that a request leaves behind.

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
    /// No span: what is done to it is done to nothing.
    pub const NONE: SpanRef = SpanRef(u32::MAX);

    /// The span at a position. One that is not there counts as none.
    pub fn from_index(index: u32) -> SpanRef {
        SpanRef(index)
    }

    /// Its position in the recorder.
    pub fn index(self) -> u32 {
        self.0
    }
}

/// How a span ended.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Status {
    /// Nothing went wrong.
    #[default]
    Unset,
    /// A guest judged that all went well.
    Ok,
    /// Something went wrong; this says what.
    Error(String),
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: Cow<'static, str>,
    /// When.
    pub time: SystemTime,
    /// More about it.
    pub attributes: Attributes,
    /// Attributes that were over the limit.
    pub dropped_attributes: u32,
}

/// One finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its id.
    pub span_id: SpanId,
    /// Its parent, perhaps in another process; invalid for a root.
    pub parent: SpanId,
    /// Whether the parent is in another process.
    pub parent_is_remote: bool,
    /// Its name.
    pub name: Cow<'static, str>,
    /// Server, client or internal.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Its own attributes. Those that the whole segment shares are in the segment.
    pub attributes: Attributes,
    /// Attributes that were over the limit.
    pub dropped_attributes: u32,
    /// What happened during it.
    pub events: Vec<Event>,
    /// Events that were over the limit.
    pub dropped_events: u32,
    /// Other spans that it has to do with.
    pub links: Vec<Link>,
    /// Links that were over the limit.
    pub dropped_links: u32,
    /// How it ended.
    pub status: Status,
}

/// A span of perhaps another trace that has to do with this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Its `tracestate`.
    pub state: String,
    /// More about the relation.
    pub attributes: Attributes,
    /// Attributes that were over the limit.
    pub dropped_attributes: u32,
}

/// How grave a log record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For those who look at every step.
    Trace,
    /// For those who look for a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Perhaps wrong.
    Warn,
    /// Wrong.
    Error,
    /// Wrong, and nothing goes on.
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

/// A line of log that belongs to a span.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// When.
    pub time: SystemTime,
    /// How grave.
    pub severity: Severity,
    /// What.
    pub body: String,
    /// More about it.
    pub attributes: Attributes,
    /// Attributes that were over the limit.
    pub dropped_attributes: u32,
    /// The span.
    pub span_id: SpanId,
}

/// What one request left behind at one service: the unit that goes through the queue and that every reader shares.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The service.
    pub resource: Arc<Resource>,
    /// The trace.
    pub trace_id: TraceId,
    /// Whether the spans are to be kept. Log records are, in any case.
    pub sampled: bool,
    /// `tracestate`.
    pub state: Option<Arc<str>>,
    /// The spans; the first is the request's own, and the others come after their parents.
    pub spans: Vec<Span>,
    /// Attributes that stand on every span.
    pub shared: Attributes,
    /// Log records.
    pub logs: Vec<LogRecord>,
}

impl Segment {
    /// A segment in which nothing is recorded.
    pub(super) fn empty(resource: Arc<Resource>, trace_id: TraceId) -> Segment {
        let (spans, shared, logs) = (Vec::new(), Attributes::default(), Vec::new());
        Segment { resource, trace_id, sampled: false, state: None, spans, shared, logs }
    }

    /// The span of the request itself.
    pub fn root(&self) -> Option<&Span> {
        self.spans.first()
    }

    /// Whether the request came from outside this process, so that the trace's local part ends with it.
    pub fn is_local_root(&self) -> bool {
        self.root().is_none_or(|root| root.parent == SpanId::INVALID || root.parent_is_remote)
    }

    /// Whether anything in it failed.
    pub fn has_error(&self) -> bool {
        self.spans.iter().any(|span| matches!(span.status, Status::Error(_)))
    }
}

/// A segment on its way to everybody who reads segments.
#[derive(Clone, Debug)]
pub(super) struct FinishedSegment {
    pub segment: Arc<Segment>,
    /// How many spans it counts as where spans are counted to bound memory.
    pub weight: usize,
}

//! What is read out of the store: spans and log records with their attributes decoded, grouped by Resource and scope.
//!
//! Spans of this host become this when a query finds them. Spans that came from elsewhere by OTLP are kept like this.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use crate::trace::otlp::{Attributes, Value};
use crate::trace::resource::Resource;
use crate::trace::segment::{Event, Link, LogRecord, Segment, Span, Status};

/// The name of the scope that the host's own spans belong to.
const SCOPE: &str = "spandrel";

/// The value of an attribute: `AnyValue` of OTLP.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AnyValue {
    /// No value.
    #[default]
    Empty,
    /// A string.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// A signed integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<AnyValue>),
    /// Key-value pairs.
    Map(Pairs),
}

/// Attributes, decoded.
pub type Pairs = Vec<(String, AnyValue)>;

/// Where spans come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredResource {
    /// `service.name`.
    pub service: Arc<str>,
    /// All attributes, `service.name` among them.
    pub attributes: Pairs,
}

/// The instrumentation scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredScope {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its attributes.
    pub attributes: Pairs,
}

/// How a span ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoredStatus {
    /// Nothing was said.
    #[default]
    Unset,
    /// It was said to be fine.
    Ok,
    /// Something went wrong; this says what.
    Error(String),
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// What happened.
    pub name: String,
    /// When.
    pub time: SystemTime,
    /// More about it.
    pub attributes: Pairs,
    /// Attributes that were over the limit.
    pub dropped_attributes: u32,
}

/// A span of perhaps another trace that has to do with this one.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLink {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Its `tracestate`.
    pub state: String,
    /// More about the relation.
    pub attributes: Pairs,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSpan {
    /// Its id.
    pub span_id: SpanId,
    /// Its parent; invalid for a root.
    pub parent: SpanId,
    /// `flags` of OTLP: the W3C flags and whether the parent is in another process.
    pub flags: u32,
    /// `tracestate`.
    pub state: Option<Arc<str>>,
    /// Its name.
    pub name: String,
    /// Its kind, where it was said.
    pub kind: Option<SpanKind>,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Its attributes, those that it shares with its whole request among them.
    pub attributes: Pairs,
    /// Attributes that were over the limit.
    pub dropped_attributes: u32,
    /// What happened during it.
    pub events: Vec<StoredEvent>,
    /// Events that were over the limit.
    pub dropped_events: u32,
    /// Other spans that it has to do with.
    pub links: Vec<StoredLink>,
    /// How it ended.
    pub status: StoredStatus,
}

/// One log record.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLog {
    /// When.
    pub time: SystemTime,
    /// `SeverityNumber`.
    pub severity: i32,
    /// `SeverityText`.
    pub severity_text: String,
    /// What.
    pub body: String,
    /// More about it.
    pub attributes: Pairs,
    /// The span that it belongs to; invalid where it belongs to the trace alone.
    pub span_id: SpanId,
}

/// Spans and log records of one trace, of one Resource and one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanGroup {
    /// The trace.
    pub trace_id: TraceId,
    /// Where they come from.
    pub resource: Arc<StoredResource>,
    /// The scope.
    pub scope: Arc<StoredScope>,
    /// The spans.
    pub spans: Vec<StoredSpan>,
    /// The log records.
    pub logs: Vec<StoredLog>,
}

/// One trace, as far as it is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTrace {
    /// Its id.
    pub trace_id: TraceId,
    /// Its spans and log records: a group for each request at each service, in the order in which they ended.
    pub groups: Vec<Arc<SpanGroup>>,
}

impl StoredTrace {
    /// Every span with its group.
    pub fn spans(&self) -> impl Iterator<Item = (&Arc<SpanGroup>, &StoredSpan)> {
        self.groups.iter().flat_map(|group| group.spans.iter().map(move |span| (group, span)))
    }

    /// Every log record with its group.
    pub fn logs(&self) -> impl Iterator<Item = (&Arc<SpanGroup>, &StoredLog)> {
        self.groups.iter().flat_map(|group| group.logs.iter().map(move |log| (group, log)))
    }
}

impl StoredSpan {
    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&AnyValue> {
        self.attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        matches!(self.status, StoredStatus::Error(_))
    }
}

impl SpanGroup {
    /// What a request left, decoded.
    pub(super) fn of(segment: &Segment) -> SpanGroup {
        let scope = StoredScope {
            name: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            attributes: Vec::new(),
        };
        SpanGroup {
            trace_id: segment.trace_id,
            resource: Arc::new(StoredResource::of(&segment.resource)),
            scope: Arc::new(scope),
            spans: segment.spans.iter().map(|span| StoredSpan::of(segment, span)).collect(),
            logs: segment.logs.iter().map(|log| StoredLog::of(segment, log)).collect(),
        }
    }
}

impl StoredResource {
    fn of(resource: &Resource) -> StoredResource {
        let attributes = resource.attributes().iter();
        let attributes = attributes.map(|pair| (pair.key.as_str().to_owned(), AnyValue::Text(pair.value.to_string())));
        StoredResource { service: resource.name().into(), attributes: attributes.collect() }
    }
}

impl StoredSpan {
    fn of(segment: &Segment, span: &Span) -> StoredSpan {
        /// Sampled, and it is known whether the parent is remote.
        const FLAGS: u32 = 0x101;
        const IS_REMOTE: u32 = 0x200;
        StoredSpan {
            span_id: span.span_id,
            parent: span.parent,
            flags: FLAGS | if span.parent_is_remote { IS_REMOTE } else { 0 },
            state: segment.state.clone(),
            name: span.name.clone().into_owned(),
            kind: Some(span.kind.clone()),
            start: span.start,
            duration: span.duration,
            attributes: decoded(&span.attributes, &segment.shared),
            dropped_attributes: span.dropped_attributes,
            events: span.events.iter().map(StoredEvent::of).collect(),
            dropped_events: span.dropped_events,
            links: span.links.iter().map(StoredLink::of).collect(),
            status: match &span.status {
                Status::Unset => StoredStatus::Unset,
                Status::Ok => StoredStatus::Ok,
                Status::Error(message) => StoredStatus::Error(message.clone()),
            },
        }
    }
}

impl StoredEvent {
    fn of(event: &Event) -> StoredEvent {
        StoredEvent {
            name: event.name.clone().into_owned(),
            time: event.time,
            attributes: decoded(&event.attributes, &Attributes::default()),
            dropped_attributes: event.dropped_attributes,
        }
    }
}

impl StoredLink {
    fn of(link: &Link) -> StoredLink {
        StoredLink {
            trace_id: link.trace_id,
            span_id: link.span_id,
            state: link.state.clone(),
            attributes: decoded(&link.attributes, &Attributes::default()),
        }
    }
}

impl StoredLog {
    fn of(segment: &Segment, record: &LogRecord) -> StoredLog {
        StoredLog {
            time: record.time,
            severity: record.severity.number(),
            severity_text: record.severity.text().to_owned(),
            body: record.body.clone(),
            attributes: decoded(&record.attributes, &segment.shared),
            span_id: record.span_id,
        }
    }
}

/// Attributes and, after them, the shared ones that are not among them.
fn decoded(own: &Attributes, shared: &Attributes) -> Pairs {
    let more = shared.iter().filter(|attribute| !own.contains(attribute.key));
    own.iter().chain(more).map(|attribute| (attribute.key.to_owned(), AnyValue::from(attribute.value))).collect()
}

impl From<Value<'_>> for AnyValue {
    fn from(value: Value<'_>) -> AnyValue {
        match value {
            Value::Text(text) => AnyValue::Text(text.to_owned()),
            Value::Boolean(truth) => AnyValue::Boolean(truth),
            Value::Int(number) => AnyValue::Int(number),
            Value::Double(number) => AnyValue::Double(number),
            Value::Texts(texts) => {
                AnyValue::List(texts.into_iter().map(|text| AnyValue::Text(text.to_owned())).collect())
            }
        }
    }
}

impl AnyValue {
    /// The value as text: as it is written in a search, and as Jaeger shows what has no type of its own.
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            AnyValue::Text(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string()),
        }
    }
}

impl fmt::Display for AnyValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnyValue::Empty => Ok(()),
            AnyValue::Text(text) => formatter.write_str(text),
            AnyValue::Boolean(truth) => write!(formatter, "{truth}"),
            AnyValue::Int(number) => write!(formatter, "{number}"),
            AnyValue::Double(number) => write!(formatter, "{number}"),
            AnyValue::Bytes(bytes) => formatter.write_str(&STANDARD.encode(bytes)),
            AnyValue::List(_) | AnyValue::Map(_) => write!(formatter, "{}", self.to_json()),
        }
    }
}

impl AnyValue {
    /// The value as JSON. Bytes become base64.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            AnyValue::Empty => serde_json::Value::Null,
            AnyValue::Text(text) => text.as_str().into(),
            AnyValue::Boolean(truth) => (*truth).into(),
            AnyValue::Int(number) => (*number).into(),
            AnyValue::Double(number) => (*number).into(),
            AnyValue::Bytes(bytes) => STANDARD.encode(bytes).into(),
            AnyValue::List(values) => values.iter().map(AnyValue::to_json).collect(),
            AnyValue::Map(pairs) => pairs.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_jaeger_shows_them() {
        let check = |value: AnyValue, expected: &str| assert_eq!(value.as_text(), expected);
        check(AnyValue::Text("a".to_owned()), "a");
        check(AnyValue::Boolean(true), "true");
        check(AnyValue::Int(-3), "-3");
        check(AnyValue::Double(2.0), "2");
        check(AnyValue::Double(0.25), "0.25");
        check(AnyValue::List(vec![AnyValue::Text("a".to_owned()), AnyValue::Int(1)]), r#"["a",1]"#);
        check(AnyValue::Map(vec![("k".to_owned(), AnyValue::Boolean(false))]), r#"{"k":false}"#);
        check(AnyValue::Bytes(b"foob".to_vec()), "Zm9vYg==");
        check(AnyValue::Empty, "");
    }
}

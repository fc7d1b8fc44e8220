//! Decoded spans and log records of the store, with their attributes, grouped by Resource and scope.
//!
//! Segments of this host are decoded when a query finds them. Spans received by OTLP are stored in this form.

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
pub(super) const SCOPE: &str = "spandrel";

/// The tags in which Jaeger shows the scope of a span.
const SCOPE_NAME: &str = "otel.scope.name";
const SCOPE_VERSION: &str = "otel.scope.version";

/// The value of an attribute: `AnyValue` in OTLP.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AnyValue {
    /// No value.
    #[default]
    Empty,
    /// A string.
    Text(String),
    /// A boolean.
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

/// The Resource of spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredResource {
    /// `service.name`.
    pub service: Arc<str>,
    /// All attributes, including `service.name`.
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

/// The status of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoredStatus {
    /// Unset.
    #[default]
    Unset,
    /// Ok.
    Ok,
    /// Error, with its description.
    Error(String),
}

/// A span event.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its name.
    pub name: String,
    /// Its time.
    pub time: SystemTime,
    /// Its attributes.
    pub attributes: Pairs,
    /// The number of attributes dropped because of the limit.
    pub dropped_attributes: u32,
}

/// A span link, possibly to another trace.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLink {
    /// The linked trace.
    pub trace_id: TraceId,
    /// The linked span.
    pub span_id: SpanId,
    /// Its `tracestate`.
    pub state: String,
    /// Its attributes.
    pub attributes: Pairs,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSpan {
    /// Its id.
    pub span_id: SpanId,
    /// Its parent; invalid for a root.
    pub parent: SpanId,
    /// `flags` in OTLP: the W3C trace flags, and whether the parent is remote.
    pub flags: u32,
    /// `tracestate`.
    pub state: Option<Arc<str>>,
    /// Its name.
    pub name: String,
    /// Its kind, if it was set.
    pub kind: Option<SpanKind>,
    /// Its start time.
    pub start: SystemTime,
    /// Its duration.
    pub duration: Duration,
    /// Its attributes, including those shared by the whole request.
    pub attributes: Pairs,
    /// The number of attributes dropped because of the limit.
    pub dropped_attributes: u32,
    /// Its events.
    pub events: Vec<StoredEvent>,
    /// The number of events dropped because of the limit.
    pub dropped_events: u32,
    /// Its links.
    pub links: Vec<StoredLink>,
    /// Its status.
    pub status: StoredStatus,
}

/// One log record.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLog {
    /// Its time.
    pub time: SystemTime,
    /// `SeverityNumber`.
    pub severity: i32,
    /// `SeverityText`.
    pub severity_text: String,
    /// Its body.
    pub body: String,
    /// Its attributes.
    pub attributes: Pairs,
    /// The span it belongs to; invalid if it belongs to the trace only.
    pub span_id: SpanId,
}

/// Spans and log records of one trace, one Resource and one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanGroup {
    /// The trace.
    pub trace_id: TraceId,
    /// Their Resource.
    pub resource: Arc<StoredResource>,
    /// Their scope.
    pub scope: Arc<StoredScope>,
    /// The spans.
    pub spans: Vec<StoredSpan>,
    /// The log records.
    pub logs: Vec<StoredLog>,
}

/// The stored part of one trace.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTrace {
    /// Its id.
    pub trace_id: TraceId,
    /// Its spans and log records: one group per request and service, in the order in which the requests ended.
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

/// The tags in which Jaeger shows the scope of a span, given its name and version. The attributes of a span from a guest's
/// own SDK name the SDK's scope, which takes the place of the scope in which the host exports the span.
pub(super) fn scope_tags<'a>(
    name: &'a str,
    version: &'a str,
    has_attribute: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let has_own = has_attribute(SCOPE_NAME);
    let tags = [(SCOPE_NAME, name), (SCOPE_VERSION, version)].into_iter();
    tags.filter(move |(key, value)| !has_own && !value.is_empty() && !has_attribute(key))
}

impl SpanGroup {
    /// The tags in which Jaeger shows the scope of a span of the group.
    pub fn scope_tags<'a>(&'a self, span: &StoredSpan) -> impl Iterator<Item = (&'static str, &'a str)> {
        scope_tags(&self.scope.name, &self.scope.version, |key| span.attribute(key).is_some())
    }
}

impl StoredSpan {
    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&AnyValue> {
        self.attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Whether its status is Error.
    pub fn has_failed(&self) -> bool {
        matches!(self.status, StoredStatus::Error(_))
    }
}

impl SpanGroup {
    /// Decodes the segment of a request.
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
        /// Sampled, and the field says whether the parent is remote.
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

/// The attributes, followed by the shared ones whose keys are not among them.
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
    /// The value as text: as written in a query, and as Jaeger shows values that have no type of its own.
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
    /// The value as JSON. Bytes are encoded in base64.
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
    fn values_are_formatted_as_in_jaeger() {
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

//! A span as a collector receives it, with attributes as JSON values, so that tests can compare them with `json!`.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use serde_json::{Value, json};

/// Attributes by key.
pub type Attributes = BTreeMap<String, Value>;

/// A span kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Internal.
    Internal,
    /// Server: handles a request.
    Server,
    /// Client: makes a request.
    Client,
    /// Producer: creates work that another process does later.
    Producer,
    /// Any other kind.
    Other,
}

impl Kind {
    /// The name in OpenTelemetry's data model.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Internal => "INTERNAL",
            Kind::Server => "SERVER",
            Kind::Client => "CLIENT",
            Kind::Producer => "PRODUCER",
            Kind::Other => "OTHER",
        }
    }
}

/// A span status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Unset.
    Unset,
    /// Ok.
    Ok,
    /// Error, with its description.
    Error(String),
}

/// A span event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its time, in nanoseconds since 1970.
    pub time: u64,
}

/// A finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of the Resource.
    pub service: String,
    /// The Resource's attributes.
    pub resource: Attributes,
    /// The instrumentation scope's name.
    pub scope: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The parent's span id; `None` for a root.
    pub parent: Option<String>,
    /// The W3C tracestate.
    pub trace_state: String,
    /// W3C trace flags, and whether the parent is remote.
    pub flags: u32,
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: Kind,
    /// The attributes.
    pub attributes: Attributes,
    /// The events, in the order in which they were sent.
    pub events: Vec<Event>,
    /// The links, by trace id and span id, with their attributes.
    pub links: Vec<(String, String, Attributes)>,
    /// The status.
    pub outcome: Outcome,
    /// Start in nanoseconds since 1970.
    pub start: u64,
    /// End in nanoseconds since 1970.
    pub end: u64,
    /// The number of attributes dropped because of the limit.
    pub dropped_attributes: u32,
    /// The number of events dropped because of the limit.
    pub dropped_events: u32,
    /// The number of links dropped because of the limit.
    pub dropped_links: u32,
}

impl Span {
    /// All spans of one export.
    pub fn all_of(exported: &[otlp::ResourceSpans]) -> Vec<Span> {
        let mut spans = Vec::new();
        for group in exported {
            let resource = resource_attributes(group.resource.as_ref());
            for scope in &group.scope_spans {
                let name = scope.scope.as_ref().map(|scope| scope.name.clone()).unwrap_or_default();
                spans.extend(scope.spans.iter().map(|span| Span::new(&resource, &name, span)));
            }
        }
        spans
    }

    fn new(resource: &Attributes, scope: &str, span: &otlp::Span) -> Span {
        Span {
            service: service_name(resource),
            resource: resource.clone(),
            scope: scope.to_owned(),
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
            trace_state: span.trace_state.clone(),
            flags: span.flags,
            name: span.name.clone(),
            kind: kind(span.kind()),
            attributes: attributes(&span.attributes),
            events: span.events.iter().map(event).collect(),
            links: span
                .links
                .iter()
                .map(|link| (hex(&link.trace_id), hex(&link.span_id), attributes(&link.attributes)))
                .collect(),
            outcome: outcome(span.status.as_ref()),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            dropped_attributes: span.dropped_attributes_count,
            dropped_events: span.dropped_events_count,
            dropped_links: span.dropped_links_count,
        }
    }

    /// The value of an attribute; `null` if it is missing.
    pub fn attribute(&self, key: &str) -> &Value {
        self.attributes.get(key).unwrap_or(&Value::Null)
    }

    /// Panics unless the attribute has this value.
    #[track_caller]
    pub fn assert_attribute(&self, key: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        let actual = self.attribute(key);
        assert_eq!(*actual, expected, "attribute `{key}` of {self}, which has {:#?}", self.attributes);
    }

    /// Panics unless all attributes are present.
    #[track_caller]
    pub fn assert_has(&self, keys: &[&str]) {
        let missing: Vec<_> = keys.iter().filter(|key| !self.attributes.contains_key(**key)).collect();
        assert!(missing.is_empty(), "{self} lacks {missing:?}; it has {:#?}", self.attributes);
    }

    /// Whether the status is an error.
    pub fn is_error(&self) -> bool {
        matches!(self.outcome, Outcome::Error(_))
    }

    /// The first event with this name.
    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.name == name)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} {}", self.service, self.name, self.kind.as_str())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The attributes of a Resource.
pub(crate) fn resource_attributes(resource: Option<&Resource>) -> Attributes {
    resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default()
}

/// `service.name` of a Resource.
pub(crate) fn service_name(resource: &Attributes) -> String {
    resource.get("service.name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// OTLP's attributes by key.
pub(crate) fn attributes(pairs: &[KeyValue]) -> Attributes {
    pairs.iter().map(|pair| (pair.key.clone(), value(pair.value.as_ref()))).collect()
}

/// An OTLP value as JSON.
pub(crate) fn value(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(flag)) => json!(flag),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        Some(any_value::Value::ArrayValue(list)) => list.values.iter().map(|item| self::value(Some(item))).collect(),
        Some(any_value::Value::KvlistValue(list)) => json!(attributes(&list.values)),
        Some(any_value::Value::BytesValue(bytes)) => json!(bytes),
        _ => Value::Null,
    }
}

fn kind(kind: otlp::span::SpanKind) -> Kind {
    match kind {
        otlp::span::SpanKind::Internal => Kind::Internal,
        otlp::span::SpanKind::Server => Kind::Server,
        otlp::span::SpanKind::Client => Kind::Client,
        otlp::span::SpanKind::Producer => Kind::Producer,
        _ => Kind::Other,
    }
}

fn event(event: &otlp::span::Event) -> Event {
    Event { name: event.name.clone(), attributes: attributes(&event.attributes), time: event.time_unix_nano }
}

fn outcome(status: Option<&otlp::Status>) -> Outcome {
    match status {
        Some(status) => match status.code() {
            otlp::status::StatusCode::Unset => Outcome::Unset,
            otlp::status::StatusCode::Ok => Outcome::Ok,
            otlp::status::StatusCode::Error => Outcome::Error(status.message.clone()),
        },
        None => Outcome::Unset,
    }
}

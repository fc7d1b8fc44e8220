//! A trace in Jaeger's internal model, between the store and its JSON, as Jaeger's translator converts OTLP.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::trace::{AnyValue, SpanGroup, SpanId, SpanKind, StoredEvent, StoredSpan, StoredStatus, StoredTrace};

/// The attribute in which Jaeger stores warnings about a span.
const WARNINGS: &str = "@jaeger@warnings";

/// The value of a tag, in the order of Jaeger's types.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TagValue {
    Text(String),
    Boolean(bool),
    Int(i64),
    Double(f64),
    Binary(Vec<u8>),
}

/// A tag.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tag {
    pub key: String,
    pub value: TagValue,
}

/// The type of a reference to another span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefType {
    ChildOf,
    FollowsFrom,
}

/// A reference to another span.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SpanRef {
    pub kind: RefType,
    pub trace: u128,
    pub span: u64,
}

/// A process: the source of spans.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Process {
    pub service: Arc<str>,
    pub tags: Vec<Tag>,
}

/// A log (an event): its time, in nanoseconds, and its fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Log {
    pub time: u64,
    pub fields: Vec<Tag>,
}

/// A span. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub trace: u128,
    pub id: u64,
    pub references: Vec<SpanRef>,
    pub name: String,
    pub start: u64,
    pub duration: u64,
    pub tags: Vec<Tag>,
    pub logs: Vec<Log>,
    pub process: Arc<Process>,
    pub warnings: Vec<String>,
}

impl Tag {
    /// A string tag.
    pub fn text(key: &str, value: impl Into<String>) -> Tag {
        Tag { key: key.to_owned(), value: TagValue::Text(value.into()) }
    }

    /// Sorted by key, then by type, then by value.
    pub fn order(&self, other: &Tag) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.value.order(&other.value))
    }
}

impl TagValue {
    fn rank(&self) -> u8 {
        match self {
            TagValue::Text(_) => 0,
            TagValue::Boolean(_) => 1,
            TagValue::Int(_) => 2,
            TagValue::Double(_) => 3,
            TagValue::Binary(_) => 4,
        }
    }

    fn order(&self, other: &TagValue) -> Ordering {
        match (self, other) {
            (TagValue::Text(one), TagValue::Text(two)) => one.cmp(two),
            (TagValue::Boolean(one), TagValue::Boolean(two)) => one.cmp(two),
            (TagValue::Int(one), TagValue::Int(two)) => one.cmp(two),
            (TagValue::Double(one), TagValue::Double(two)) => one.total_cmp(two),
            (TagValue::Binary(one), TagValue::Binary(two)) => one.cmp(two),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Span {
    /// Its parent in this trace: its first child-of reference, else its first follows-from reference.
    pub fn parent(&self) -> Option<u64> {
        let here = || self.references.iter().filter(|reference| reference.trace == self.trace);
        let child = here().find(|reference| reference.kind == RefType::ChildOf);
        child.or_else(|| here().next()).map(|reference| reference.span).filter(|parent| *parent != 0)
    }
}

/// All spans of a trace.
pub(super) fn spans(trace: &StoredTrace) -> Vec<Span> {
    let groups = trace.groups.iter().flat_map(|group| {
        let process = Arc::new(process(group));
        group.spans.iter().map(move |stored| span(group, stored, process.clone()))
    });
    groups.collect()
}

fn process(group: &SpanGroup) -> Process {
    let attributes = group.resource.attributes.iter().filter(|(key, _)| key != "service.name");
    Process { service: group.resource.service.clone(), tags: attributes.map(tag).collect() }
}

fn span(group: &SpanGroup, stored: &StoredSpan, process: Arc<Process>) -> Span {
    let trace = u128::from_be_bytes(group.trace_id.to_bytes());
    Span {
        trace,
        id: number(stored.span_id),
        references: references(stored, trace),
        name: stored.name.clone(),
        start: nanos(stored.start),
        duration: u64::try_from(stored.duration.as_nanos()).unwrap_or(u64::MAX),
        tags: tags(group, stored),
        logs: stored.events.iter().map(log).collect(),
        process,
        warnings: warnings(stored),
    }
}

/// The parent comes first, unless a link specifies another type for it.
fn references(stored: &StoredSpan, trace: u128) -> Vec<SpanRef> {
    let parent = number(stored.parent);
    let mut references = Vec::with_capacity(stored.links.len() + 1);
    if parent != 0 {
        references.push(SpanRef { kind: RefType::ChildOf, trace, span: parent });
    }
    for link in &stored.links {
        let (linked, span) = (u128::from_be_bytes(link.trace_id.to_bytes()), number(link.span_id));
        let kind =
            link.attributes.iter().find(|(key, _)| key == "opentracing.ref_type").map(|(_, value)| value.as_text());
        let kind = if kind.as_deref() == Some("child_of") { RefType::ChildOf } else { RefType::FollowsFrom };
        match references.first_mut() {
            Some(first) if parent != 0 && linked == trace && span == parent => first.kind = kind,
            _ => references.push(SpanRef { kind, trace: linked, span }),
        }
    }
    references
}

fn tags(group: &SpanGroup, stored: &StoredSpan) -> Vec<Tag> {
    let mut tags = Vec::with_capacity(stored.attributes.len() + 8);
    tags.extend(group.scope_tags(stored).map(|(key, value)| Tag::text(key, value)));
    tags.extend(stored.attributes.iter().filter(|(key, _)| key != WARNINGS).map(tag));
    if let Some(kind) = &stored.kind {
        tags.push(Tag::text("span.kind", kind_name(Some(kind))));
    }
    match &stored.status {
        StoredStatus::Unset => {}
        StoredStatus::Ok => tags.push(Tag::text("otel.status_code", "OK")),
        StoredStatus::Error(message) => {
            tags.push(Tag::text("otel.status_code", "ERROR"));
            tags.push(Tag { key: "error".to_owned(), value: TagValue::Boolean(true) });
            if !message.is_empty() {
                tags.push(Tag::text("otel.status_description", message));
            }
        }
    }
    if let Some(state) = stored.state.as_deref().filter(|state| !state.is_empty()) {
        tags.push(Tag::text("w3c.tracestate", state));
    }
    tags
}

/// The kind as Jaeger writes it; empty if it is unset.
pub(super) fn kind_name(kind: Option<&SpanKind>) -> &'static str {
    match kind {
        None => "",
        Some(SpanKind::Client) => "client",
        Some(SpanKind::Server) => "server",
        Some(SpanKind::Producer) => "producer",
        Some(SpanKind::Consumer) => "consumer",
        Some(SpanKind::Internal) => "internal",
    }
}

/// The kind that Jaeger writes like this.
pub(super) fn kind_named(name: &str) -> Option<SpanKind> {
    let kinds = [SpanKind::Client, SpanKind::Server, SpanKind::Producer, SpanKind::Consumer, SpanKind::Internal];
    kinds.into_iter().find(|kind| kind_name(Some(kind)) == name)
}

fn log(event: &StoredEvent) -> Log {
    let has_name = event.attributes.iter().any(|(key, _)| key == "event");
    let name = (!event.name.is_empty() && !has_name).then(|| Tag::text("event", &event.name));
    Log { time: nanos(event.time), fields: name.into_iter().chain(event.attributes.iter().map(tag)).collect() }
}

fn warnings(stored: &StoredSpan) -> Vec<String> {
    match stored.attribute(WARNINGS) {
        None => Vec::new(),
        Some(AnyValue::List(texts)) => texts.iter().map(|text| text.as_text().into_owned()).collect(),
        Some(other) => vec![other.as_text().into_owned()],
    }
}

fn tag((key, value): &(String, AnyValue)) -> Tag {
    let value = match value {
        AnyValue::Text(text) => TagValue::Text(text.clone()),
        AnyValue::Boolean(truth) => TagValue::Boolean(*truth),
        AnyValue::Int(number) => TagValue::Int(*number),
        AnyValue::Double(number) => TagValue::Double(*number),
        AnyValue::Bytes(bytes) => TagValue::Binary(bytes.clone()),
        AnyValue::Empty => TagValue::Text(String::new()),
        AnyValue::List(_) | AnyValue::Map(_) => TagValue::Text(go_json(&value.to_json().to_string())),
    };
    Tag { key: key.clone(), value }
}

/// Escapes characters that could be markup, as Go does in JSON.
fn go_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => text.push(letter),
        }
    }
    text
}

fn number(id: SpanId) -> u64 {
    u64::from_be_bytes(id.to_bytes())
}

pub(super) fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace::{StoredResource, StoredScope, TraceId};

    #[test]
    fn a_span_has_the_tags_of_one_scope() {
        let check = |attributes: &[(&str, &str)], expected: &[(&str, &str)]| {
            let of = |(key, value): &(&str, &str)| ((*key).to_owned(), AnyValue::Text((*value).to_owned()));
            let stored = stored(attributes.iter().map(of).collect());
            let scope = StoredScope { name: "spandrel".to_owned(), version: "1".to_owned(), ..StoredScope::default() };
            let trace_id = TraceId::from(1_u128);
            let (resource, spans) = (Arc::new(StoredResource::default()), Vec::new());
            let group = SpanGroup { trace_id, resource, scope: Arc::new(scope), spans, logs: Vec::new() };
            let expected: Vec<_> = expected.iter().map(|(key, value)| Tag::text(key, *value)).collect();
            assert_eq!(tags(&group, &stored), expected);
        };
        check(&[("a", "b")], &[("otel.scope.name", "spandrel"), ("otel.scope.version", "1"), ("a", "b")]);
        let own = [("otel.scope.name", "sdk"), ("otel.scope.version", "2")];
        check(&own, &own);
        check(&own[..1], &own[..1]);
        check(&own[1..], &[("otel.scope.name", "spandrel"), ("otel.scope.version", "2")]);
    }

    fn stored(attributes: Vec<(String, AnyValue)>) -> StoredSpan {
        StoredSpan {
            span_id: SpanId::from(1),
            parent: SpanId::INVALID,
            flags: 0,
            state: None,
            name: "step".to_owned(),
            kind: None,
            start: UNIX_EPOCH,
            duration: Duration::ZERO,
            attributes,
            dropped_attributes: 0,
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            status: StoredStatus::Unset,
        }
    }
}

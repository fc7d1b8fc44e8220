//! The parts of a trace in the store: segments of this host as they were recorded, and span groups received by OTLP.
//!
//! Both have the same interface: the index and searches see spans and tags, decoded one at a time.

use std::fmt::Write;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::record::{AnyValue, Pairs, SCOPE, SpanGroup, StoredEvent, StoredSpan, StoredStatus, scope_tags};
use crate::trace::otlp::{Attribute, Attributes, Value};
use crate::trace::segment::{Segment, Span, Status};

/// The memory that an attribute of a decoded list takes in addition to its texts.
const PAIR_BYTES: usize = size_of::<(String, AnyValue)>();

/// A part of a trace.
#[derive(Clone, Debug)]
pub(in crate::trace) enum StoredPart {
    /// The segment of a request to a service of this host.
    Local(Arc<Segment>),
    /// Spans received from another process.
    Received(Arc<SpanGroup>),
}

/// A span of a part.
#[derive(Clone, Copy)]
pub(super) enum SpanView<'a> {
    Local(&'a Segment, &'a Span),
    Received(&'a SpanGroup, &'a StoredSpan),
}

/// Is called with each tag: its key, and its value as text.
pub(super) type TagVisitor<'v> = dyn FnMut(&str, &str) + 'v;

impl StoredPart {
    pub fn trace_id(&self) -> TraceId {
        match self {
            StoredPart::Local(segment) => segment.trace_id,
            StoredPart::Received(group) => group.trace_id,
        }
    }

    pub(super) fn service(&self) -> &str {
        match self {
            StoredPart::Local(segment) => segment.resource.name(),
            StoredPart::Received(group) => &group.resource.service,
        }
    }

    pub(super) fn logs(&self) -> usize {
        match self {
            StoredPart::Local(segment) => segment.logs.len(),
            StoredPart::Received(group) => group.logs.len(),
        }
    }

    pub(super) fn spans(&self) -> impl Iterator<Item = SpanView<'_>> {
        let (local, received) = match self {
            StoredPart::Local(segment) => (Some(segment), None),
            StoredPart::Received(group) => (None, Some(group)),
        };
        let local = local.into_iter().flat_map(|part| part.spans.iter().map(|span| SpanView::Local(part, span)));
        local.chain(received.into_iter().flat_map(|part| part.spans.iter().map(|span| SpanView::Received(part, span))))
    }

    /// The root of the part: a segment's first span; of a group the earliest span whose parent is not in the group. If
    /// none is found, the earliest span, so that the trace has a name in lists.
    pub(super) fn root(&self) -> Option<SpanView<'_>> {
        match self {
            StoredPart::Local(segment) => segment.root().map(|span| SpanView::Local(segment, span)),
            StoredPart::Received(group) => {
                let is_inside = |span: &StoredSpan| group.spans.iter().any(|other| other.span_id == span.parent);
                let candidates = group.spans.iter().take(ROOT_SEARCH);
                let root = candidates.min_by_key(|span| (is_inside(span), span.parent != SpanId::INVALID, span.start));
                root.map(|span| SpanView::Received(group, span))
            }
        }
    }

    /// Whether this part completes what this process contributes to the trace.
    pub fn ends_trace(&self) -> bool {
        match self {
            StoredPart::Local(segment) => segment.is_local_root(),
            StoredPart::Received(group) => group.spans.iter().any(|span| span.parent == SpanId::INVALID),
        }
    }

    pub fn has_error(&self) -> bool {
        match self {
            StoredPart::Local(segment) => segment.has_error(),
            StoredPart::Received(group) => group.spans.iter().any(StoredSpan::has_failed),
        }
    }

    /// The memory that the part takes, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            StoredPart::Local(segment) => segment_bytes(segment),
            StoredPart::Received(group) => group_bytes(group),
        }
    }

    /// The spans and log records, decoded.
    pub(super) fn decode(&self) -> Arc<SpanGroup> {
        match self {
            StoredPart::Local(segment) => Arc::new(SpanGroup::of(segment)),
            StoredPart::Received(group) => group.clone(),
        }
    }

    /// The hashes of all tags of all spans, sorted and without duplicates. A tag whose hash is not among them is on
    /// none of the spans.
    pub(super) fn tag_hashes(&self) -> Box<[u32]> {
        let mut hashes = Vec::with_capacity(64);
        let mut add = |key: &str, value: &str| hashes.push(tag_hash(key, value));
        self.resource_tags(&mut add);
        self.spans().for_each(|span| span.tags(&mut add));
        hashes.sort_unstable();
        hashes.dedup();
        hashes.into_boxed_slice()
    }

    /// The tags that the Resource adds to every span.
    pub(super) fn resource_tags(&self, visit: &mut TagVisitor<'_>) {
        match self {
            StoredPart::Local(segment) => {
                segment.resource.attributes().iter().for_each(|pair| visit(pair.key.as_str(), &pair.value.as_str()));
            }
            StoredPart::Received(group) => pairs(&group.resource.attributes, visit),
        }
    }
}

/// The root is searched among this many spans of a group, because the search is quadratic.
const ROOT_SEARCH: usize = 256;

/// The hash of a tag.
pub(super) fn tag_hash(key: &str, value: &str) -> u32 {
    foldhash::fast::FixedState::with_seed(0).hash_one((key, value)) as u32
}

impl<'a> SpanView<'a> {
    pub fn parent(&self) -> SpanId {
        match self {
            SpanView::Local(_, span) => span.parent,
            SpanView::Received(_, span) => span.parent,
        }
    }

    pub fn span_id(&self) -> SpanId {
        match self {
            SpanView::Local(_, span) => span.span_id,
            SpanView::Received(_, span) => span.span_id,
        }
    }

    pub fn name(&self) -> &'a str {
        match self {
            SpanView::Local(_, span) => &span.name,
            SpanView::Received(_, span) => &span.name,
        }
    }

    pub fn kind(&self) -> Option<&'a SpanKind> {
        match self {
            SpanView::Local(_, span) => Some(&span.kind),
            SpanView::Received(_, span) => span.kind.as_ref(),
        }
    }

    pub fn start(&self) -> SystemTime {
        match self {
            SpanView::Local(_, span) => span.start,
            SpanView::Received(_, span) => span.start,
        }
    }

    pub fn duration(&self) -> Duration {
        match self {
            SpanView::Local(_, span) => span.duration,
            SpanView::Received(_, span) => span.duration,
        }
    }

    pub fn has_failed(&self) -> bool {
        match self {
            SpanView::Local(_, span) => matches!(span.status, Status::Error(_)),
            SpanView::Received(_, span) => span.has_failed(),
        }
    }

    /// An integer attribute.
    pub fn int(&self, key: &str) -> Option<i64> {
        match self {
            SpanView::Local(_, span) => match span.attributes.get(key)? {
                Value::Int(number) => Some(number),
                _ => None,
            },
            SpanView::Received(_, span) => match span.attribute(key)? {
                AnyValue::Int(number) => Some(*number),
                _ => None,
            },
        }
    }

    /// All tags by which a search finds the span, as in Jaeger: attributes, events, and the fields that Jaeger converts
    /// to tags.
    pub fn tags(&self, visit: &mut TagVisitor<'_>) {
        if let Some(kind) = self.kind() {
            visit("span.kind", kind_name(kind));
        }
        match self {
            SpanView::Local(segment, span) => {
                let scope = scope_tags(SCOPE, env!("CARGO_PKG_VERSION"), |key| span.attributes.contains(key));
                scope.for_each(|(key, value)| visit(key, value));
                if let Some(state) = &segment.state {
                    visit("w3c.tracestate", state);
                }
                match &span.status {
                    Status::Unset => {}
                    Status::Ok => visit("otel.status_code", "OK"),
                    Status::Error(message) => failure(message, visit),
                }
                let mut text = String::new();
                let more = segment.shared.iter().filter(|attribute| !span.attributes.contains(attribute.key));
                span.attributes.iter().chain(more).for_each(|attribute| tag(&attribute, &mut text, visit));
                for event in &span.events {
                    visit("event", &event.name);
                    event.attributes.iter().for_each(|attribute| tag(&attribute, &mut text, visit));
                }
            }
            SpanView::Received(group, span) => received_tags(group, span, visit),
        }
    }
}

fn received_tags(group: &SpanGroup, span: &StoredSpan, visit: &mut TagVisitor<'_>) {
    group.scope_tags(span).for_each(|(key, value)| visit(key, value));
    pairs(&group.scope.attributes, visit);
    if let Some(state) = &span.state {
        visit("w3c.tracestate", state);
    }
    match &span.status {
        StoredStatus::Unset => {}
        StoredStatus::Ok => visit("otel.status_code", "OK"),
        StoredStatus::Error(message) => failure(message, visit),
    }
    pairs(&span.attributes, visit);
    for StoredEvent { name, attributes, .. } in &span.events {
        visit("event", name);
        pairs(attributes, visit);
    }
}

fn failure(message: &str, visit: &mut TagVisitor<'_>) {
    visit("error", "true");
    visit("otel.status_code", "ERROR");
    if !message.is_empty() {
        visit("otel.status_description", message);
    }
}

fn pairs(pairs: &Pairs, visit: &mut TagVisitor<'_>) {
    pairs.iter().for_each(|(key, value)| visit(key, &value.as_text()));
}

/// Visits one tag. A value that is not text is formatted into `text`.
fn tag(attribute: &Attribute<'_>, text: &mut String, visit: &mut TagVisitor<'_>) {
    text.clear();
    let written = match &attribute.value {
        Value::Text(value) => return visit(attribute.key, value),
        Value::Int(number) => write!(text, "{number}"),
        Value::Double(number) => write!(text, "{number}"),
        Value::Boolean(truth) => write!(text, "{truth}"),
        Value::Texts(_) => write!(text, "{}", AnyValue::from(attribute.value.clone())),
    };
    if written.is_ok() {
        visit(attribute.key, text);
    }
}

/// The span kind as Jaeger writes it.
pub(super) fn kind_name(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    }
}

fn segment_bytes(segment: &Segment) -> usize {
    let name = |name: &std::borrow::Cow<'_, str>| match name {
        std::borrow::Cow::Borrowed(_) => 0,
        std::borrow::Cow::Owned(text) => text.capacity(),
    };
    let spans = segment.spans.iter().map(|span| {
        let events = span.events.iter().map(|event| name(&event.name) + event.attributes.capacity());
        let events = events.sum::<usize>() + span.events.capacity() * size_of::<crate::trace::segment::Event>();
        let message = match &span.status {
            Status::Unset | Status::Ok => 0,
            Status::Error(message) => message.capacity(),
        };
        name(&span.name) + span.attributes.capacity() + events + message
    });
    let logs = segment.logs.iter().map(|log| log.body.capacity() + log.attributes.capacity());
    size_of::<Segment>()
        + spans.sum::<usize>()
        + segment.spans.capacity() * size_of::<Span>()
        + logs.sum::<usize>()
        + segment.logs.capacity() * size_of::<crate::trace::segment::LogRecord>()
        + Attributes::capacity(&segment.shared)
}

fn group_bytes(group: &SpanGroup) -> usize {
    let spans = group.spans.iter().map(|span| {
        let events = span.events.iter().map(|event| event.name.len() + pairs_bytes(&event.attributes));
        let links = span.links.iter().map(|link| link.state.len() + pairs_bytes(&link.attributes));
        let links = links.sum::<usize>() + span.links.capacity() * size_of::<super::record::StoredLink>();
        let events = events.sum::<usize>() + span.events.capacity() * size_of::<StoredEvent>();
        let message = match &span.status {
            StoredStatus::Error(message) => message.capacity(),
            _ => 0,
        };
        let state = span.state.as_ref().map_or(0, |state| state.len());
        span.name.capacity() + pairs_bytes(&span.attributes) + events + links + message + state
    });
    let logs = group.logs.iter().map(|log| log.body.len() + log.severity_text.len() + pairs_bytes(&log.attributes));
    size_of::<SpanGroup>()
        + spans.sum::<usize>()
        + group.spans.capacity() * size_of::<StoredSpan>()
        + logs.sum::<usize>()
        + group.logs.capacity() * size_of::<super::record::StoredLog>()
        + pairs_bytes(&group.resource.attributes)
        + pairs_bytes(&group.scope.attributes)
}

fn pairs_bytes(pairs: &Pairs) -> usize {
    pairs.capacity() * PAIR_BYTES + pairs.iter().map(|(key, value)| key.capacity() + value_bytes(value)).sum::<usize>()
}

fn value_bytes(value: &AnyValue) -> usize {
    match value {
        AnyValue::Text(text) => text.capacity(),
        AnyValue::Bytes(bytes) => bytes.capacity(),
        AnyValue::List(values) => values.iter().map(|value| size_of::<AnyValue>() + value_bytes(value)).sum(),
        AnyValue::Map(pairs) => pairs_bytes(pairs),
        _ => 0,
    }
}

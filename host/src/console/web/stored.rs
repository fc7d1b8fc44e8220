//! View models of stored traces.

use std::sync::Arc;

use opentelemetry::trace::{SpanId, SpanKind};

use crate::console::pages::Trace;
use crate::console::pages::model::{Attribute, Event, Kind, Link, Log, Span, TraceRow, Value};
use crate::trace::{
    AnyValue, Pairs, SpanGroup, StoredEvent, StoredLog, StoredSpan, StoredStatus, StoredTrace, TraceSummary,
};

/// A trace in a list.
pub(super) fn row(summary: &TraceSummary) -> TraceRow {
    let root = summary.root.as_ref();
    TraceRow {
        id: summary.trace_id.to_string(),
        service: root.map(|root| root.service.to_string()).unwrap_or_default(),
        name: root.map(|root| root.name.clone()).unwrap_or_default(),
        start: summary.start,
        duration: summary.duration,
        services: summary.services.iter().map(|of| (of.service.to_string(), of.spans)).collect(),
        spans: summary.spans,
        errors: summary.errors,
    }
}

/// A whole trace.
pub(super) fn trace(stored: &StoredTrace) -> Trace {
    let (mut spans, mut logs) = (Vec::new(), Vec::new());
    for group in &stored.groups {
        let resource = Arc::new(attributes(&group.resource.attributes));
        spans.extend(group.spans.iter().map(|of| span(group, of, &resource)));
        logs.extend(group.logs.iter().map(|of| log(group, of)));
    }
    Trace::new(stored.trace_id.to_string(), spans, logs)
}

fn span(group: &SpanGroup, span: &StoredSpan, resource: &Arc<Vec<Attribute>>) -> Span {
    Span {
        id: span.span_id.to_string(),
        parent: (span.parent != SpanId::INVALID).then(|| span.parent.to_string()),
        service: group.resource.service.to_string(),
        name: span.name.clone(),
        kind: kind(span.kind.as_ref()),
        start: span.start,
        duration: span.duration,
        error: match &span.status {
            StoredStatus::Error(message) => Some(message.clone()),
            StoredStatus::Unset | StoredStatus::Ok => None,
        },
        attributes: attributes(&span.attributes),
        dropped: span.dropped_attributes.saturating_add(span.dropped_events),
        events: span.events.iter().map(event).collect(),
        links: span
            .links
            .iter()
            .map(|of| Link { trace: of.trace_id.to_string(), span: of.span_id.to_string() })
            .collect(),
        resource: resource.clone(),
    }
}

fn kind(kind: Option<&SpanKind>) -> Kind {
    match kind {
        Some(SpanKind::Server) => Kind::Server,
        Some(SpanKind::Client) => Kind::Client,
        Some(SpanKind::Producer) => Kind::Producer,
        Some(SpanKind::Consumer) => Kind::Consumer,
        Some(SpanKind::Internal) | None => Kind::Internal,
    }
}

fn event(event: &StoredEvent) -> Event {
    Event { name: event.name.clone(), time: event.time, attributes: attributes(&event.attributes) }
}

fn log(group: &SpanGroup, log: &StoredLog) -> Log {
    Log {
        time: log.time,
        severity: log.severity_text.clone(),
        service: group.resource.service.to_string(),
        span: log.span_id.to_string(),
        body: log.body.clone(),
        attributes: attributes(&log.attributes),
    }
}

fn attributes(pairs: &Pairs) -> Vec<Attribute> {
    pairs.iter().map(|(key, of)| Attribute { key: key.clone(), value: value(of) }).collect()
}

fn value(value: &AnyValue) -> Value {
    match value {
        AnyValue::Text(text) => Value::Text(text.clone()),
        AnyValue::Boolean(truth) => Value::Bool(*truth),
        AnyValue::Int(number) => Value::Int(*number),
        AnyValue::Double(number) => Value::Double(*number),
        AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::List(_) | AnyValue::Map(_) => Value::Text(value.to_string()),
    }
}

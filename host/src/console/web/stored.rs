//! View models of stored traces.

use std::sync::Arc;

use opentelemetry::trace::{SpanId, SpanKind};

use crate::console::pages::TraceModel;
use crate::console::pages::model::{
    AttributeModel, Event, LinkModel, LogModel, SpanKindModel, SpanModel, TraceRow, ValueModel,
};
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
pub(super) fn trace(stored: &StoredTrace) -> TraceModel {
    let (mut spans, mut logs) = (Vec::new(), Vec::new());
    for group in &stored.groups {
        let resource = Arc::new(attributes(&group.resource.attributes));
        spans.extend(group.spans.iter().map(|of| span(group, of, &resource)));
        logs.extend(group.logs.iter().map(|of| log(group, of)));
    }
    TraceModel::new(stored.trace_id.to_string(), spans, logs)
}

fn span(group: &SpanGroup, span: &StoredSpan, resource: &Arc<Vec<AttributeModel>>) -> SpanModel {
    SpanModel {
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
            .map(|of| LinkModel { trace: of.trace_id.to_string(), span: of.span_id.to_string() })
            .collect(),
        resource: resource.clone(),
    }
}

fn kind(kind: Option<&SpanKind>) -> SpanKindModel {
    match kind {
        Some(SpanKind::Server) => SpanKindModel::Server,
        Some(SpanKind::Client) => SpanKindModel::Client,
        Some(SpanKind::Producer) => SpanKindModel::Producer,
        Some(SpanKind::Consumer) => SpanKindModel::Consumer,
        Some(SpanKind::Internal) | None => SpanKindModel::Internal,
    }
}

fn event(event: &StoredEvent) -> Event {
    Event { name: event.name.clone(), time: event.time, attributes: attributes(&event.attributes) }
}

fn log(group: &SpanGroup, log: &StoredLog) -> LogModel {
    LogModel {
        time: log.time,
        severity: log.severity_text.clone(),
        service: group.resource.service.to_string(),
        span: log.span_id.to_string(),
        body: log.body.clone(),
        attributes: attributes(&log.attributes),
    }
}

fn attributes(pairs: &Pairs) -> Vec<AttributeModel> {
    pairs.iter().map(|(key, of)| AttributeModel { key: key.clone(), value: value(of) }).collect()
}

fn value(value: &AnyValue) -> ValueModel {
    match value {
        AnyValue::Text(text) => ValueModel::Text(text.clone()),
        AnyValue::Boolean(truth) => ValueModel::Bool(*truth),
        AnyValue::Int(number) => ValueModel::Int(*number),
        AnyValue::Double(number) => ValueModel::Double(*number),
        AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::List(_) | AnyValue::Map(_) => {
            ValueModel::Text(value.to_string())
        }
    }
}

//! Traces as OTLP JSON (Jaeger's v3 API): the protobuf JSON mapping, with ids in hexadecimal as OTLP specifies.

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::adjust::{ADDRESS_TAGS, PROCESS_TAGS};
use super::clock_skew::{self, SpanTiming};
use super::span::nanos;
use super::trace::Adjusted;
use crate::trace::{
    AnyValue, Pairs, SpanGroup, SpanId, SpanKind, StoredEvent, StoredLink, StoredSpan, StoredStatus, StoredTrace,
    TraceId,
};

/// The attribute in which Jaeger stores warnings about a span.
const WARNINGS: &str = "@jaeger@warnings";
/// The Resource attributes that identify hosts.
const HOST: [&str; 3] = ["host.id", "host.ip", "host.name"];

/// Jaeger's envelope for traces.
pub(super) fn wrapped(traces: &[StoredTrace], adjusted: Adjusted) -> Value {
    let groups: Vec<Value> = traces.iter().flat_map(|trace| resource_spans(trace, adjusted)).collect();
    json!({ "result": { "resourceSpans": groups } })
}

fn resource_spans(trace: &StoredTrace, adjusted: Adjusted) -> Vec<Value> {
    let mut warned = match adjusted {
        Adjusted::Yes => warnings(trace),
        Adjusted::Raw => Vec::new(),
    }
    .into_iter();
    let groups = trace.groups.iter().map(|group| {
        let mut of_resource = group.resource.attributes.clone();
        let spans: Vec<Value> = group
            .spans
            .iter()
            .map(|stored| {
                let warnings = warned.next().unwrap_or_default();
                match adjusted {
                    Adjusted::Yes => span(group, &adjust(stored, &mut of_resource, warnings), adjusted),
                    Adjusted::Raw => span(group, stored, adjusted),
                }
            })
            .collect();
        let mut scope = Map::new();
        text(&mut scope, "name", &group.scope.name);
        text(&mut scope, "version", &group.scope.version);
        attributes(&mut scope, &group.scope.attributes, adjusted);
        let mut resource = Map::new();
        attributes(&mut resource, &of_resource, adjusted);
        json!({ "resource": resource, "scopeSpans": [{ "scope": scope, "spans": spans }] })
    });
    groups.collect()
}

/// The warnings about clock skew, for each span in order.
fn warnings(trace: &StoredTrace) -> Vec<Vec<String>> {
    let number = |id: SpanId| u64::from_be_bytes(id.to_bytes());
    let timings = trace.spans().map(|(group, span)| SpanTiming {
        id: number(span.span_id),
        parent: Some(number(span.parent)).filter(|parent| *parent != 0),
        start: nanos(span.start),
        duration: u64::try_from(span.duration.as_nanos()).unwrap_or(u64::MAX),
        host: host(group),
    });
    clock_skew::warnings(&timings.collect::<Vec<_>>(), |parent| {
        format!("parent span ID={parent:016x} is not in the trace; skipping clock skew adjustment")
    })
}

fn host(group: &SpanGroup) -> String {
    let value = |name: &&str| group.resource.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    HOST.iter().find_map(value).map(|value| value.as_text().into_owned()).unwrap_or_default()
}

fn span(group: &SpanGroup, stored: &StoredSpan, adjusted: Adjusted) -> Value {
    let mut span = Map::new();
    let start = nanos(stored.start);
    text(&mut span, "traceId", &format!("{:032x}", group.trace_id));
    text(&mut span, "spanId", &format!("{:016x}", stored.span_id));
    text(&mut span, "traceState", stored.state.as_deref().unwrap_or_default());
    if stored.parent != SpanId::INVALID {
        text(&mut span, "parentSpanId", &format!("{:016x}", stored.parent));
    }
    count(&mut span, "flags", stored.flags);
    text(&mut span, "name", &stored.name);
    count(&mut span, "kind", kind(stored.kind.as_ref()));
    span.insert("startTimeUnixNano".to_owned(), start.to_string().into());
    let end = start.saturating_add(u64::try_from(stored.duration.as_nanos()).unwrap_or(u64::MAX));
    span.insert("endTimeUnixNano".to_owned(), end.to_string().into());
    attributes(&mut span, &stored.attributes, adjusted);
    count(&mut span, "droppedAttributesCount", stored.dropped_attributes);
    list(&mut span, "events", stored.events.iter().map(|each| event(each, adjusted)).collect());
    count(&mut span, "droppedEventsCount", stored.dropped_events);
    list(&mut span, "links", stored.links.iter().map(|each| link(each, adjusted)).collect());
    let mut status = Map::new();
    match &stored.status {
        StoredStatus::Unset => {}
        StoredStatus::Ok => count(&mut status, "code", 1),
        StoredStatus::Error(message) => {
            text(&mut status, "message", message);
            count(&mut status, "code", 2);
        }
    }
    span.insert("status".to_owned(), status.into());
    span.into()
}

/// A span as Jaeger's query service returns it. Attributes that belong to the Resource are moved there.
fn adjust(stored: &StoredSpan, resource: &mut Pairs, warnings: Vec<String>) -> StoredSpan {
    let mut span = stored.clone();
    for (key, value) in span.attributes.extract_if(.., |(key, _)| PROCESS_TAGS.contains(&key.as_str())) {
        resource.retain(|(known, _)| *known != key);
        resource.push((key, value));
    }
    span.attributes.iter_mut().filter(|(key, _)| ADDRESS_TAGS.contains(&key.as_str())).for_each(|(_, value)| {
        if let AnyValue::Int(number) = value {
            *value = AnyValue::Text(Ipv4Addr::from(*number as u32).to_string());
        }
    });
    span.events.sort_by(|one, two| one.name.cmp(&two.name));
    span.links.retain(|link| link.trace_id != TraceId::INVALID);
    warn(&mut span.attributes, warnings);
    span
}

fn warn(pairs: &mut Pairs, warnings: Vec<String>) {
    if warnings.is_empty() {
        return;
    }
    let more = warnings.into_iter().map(AnyValue::Text);
    match pairs.iter_mut().find(|(key, _)| key == WARNINGS) {
        Some((_, AnyValue::List(known))) => known.extend(more),
        _ => pairs.push((WARNINGS.to_owned(), AnyValue::List(more.collect()))),
    }
}

fn event(stored: &StoredEvent, adjusted: Adjusted) -> Value {
    let mut event = Map::new();
    event.insert("timeUnixNano".to_owned(), nanos(stored.time).to_string().into());
    text(&mut event, "name", &stored.name);
    attributes(&mut event, &stored.attributes, adjusted);
    count(&mut event, "droppedAttributesCount", stored.dropped_attributes);
    event.into()
}

fn link(stored: &StoredLink, adjusted: Adjusted) -> Value {
    let mut link = Map::new();
    text(&mut link, "traceId", &format!("{:032x}", stored.trace_id));
    text(&mut link, "spanId", &format!("{:016x}", stored.span_id));
    text(&mut link, "traceState", &stored.state);
    attributes(&mut link, &stored.attributes, adjusted);
    link.into()
}

/// OTLP's number of a span kind.
fn kind(kind: Option<&SpanKind>) -> u32 {
    match kind {
        None => 0,
        Some(SpanKind::Internal) => 1,
        Some(SpanKind::Server) => 2,
        Some(SpanKind::Client) => 3,
        Some(SpanKind::Producer) => 4,
        Some(SpanKind::Consumer) => 5,
    }
}

fn text(message: &mut Map<String, Value>, field: &str, value: &str) {
    if !value.is_empty() {
        message.insert(field.to_owned(), value.into());
    }
}

fn count(message: &mut Map<String, Value>, field: &str, value: u32) {
    if value != 0 {
        message.insert(field.to_owned(), value.into());
    }
}

fn list(message: &mut Map<String, Value>, field: &str, values: Vec<Value>) {
    if !values.is_empty() {
        message.insert(field.to_owned(), values.into());
    }
}

fn attributes(message: &mut Map<String, Value>, pairs: &Pairs, adjusted: Adjusted) {
    let mut sorted: Vec<_> = pairs.iter().collect();
    if adjusted == Adjusted::Yes {
        sorted.sort_by(|one, two| one.0.cmp(&two.0));
    }
    list(message, "attributes", key_values(sorted));
}

fn key_values<'a>(pairs: impl IntoIterator<Item = &'a (String, AnyValue)>) -> Vec<Value> {
    pairs.into_iter().map(|(key, value)| json!({ "key": key, "value": any(value) })).collect()
}

fn any(value: &AnyValue) -> Value {
    match value {
        AnyValue::Empty => json!({}),
        AnyValue::Text(text) => json!({ "stringValue": text }),
        AnyValue::Boolean(truth) => json!({ "boolValue": truth }),
        AnyValue::Int(number) => json!({ "intValue": number.to_string() }),
        AnyValue::Double(number) if !number.is_finite() => json!({ "doubleValue": non_finite(*number) }),
        AnyValue::Double(number) => json!({ "doubleValue": number }),
        AnyValue::Bytes(bytes) => json!({ "bytesValue": STANDARD.encode(bytes) }),
        AnyValue::List(values) => json!({ "arrayValue": { "values": values.iter().map(any).collect::<Vec<_>>() } }),
        AnyValue::Map(pairs) => json!({ "kvlistValue": { "values": key_values(pairs) } }),
    }
}

/// Formats non-finite numbers as the JSON mapping of protobuf does.
fn non_finite(number: f64) -> &'static str {
    match number {
        _ if number.is_nan() => "NaN",
        _ if number > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

//! Converts OTLP messages to the records of the store, with the same corrections that Jaeger makes on arrival.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Any, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span, status};
use time::OffsetDateTime;

use crate::trace::store::{
    AnyValue, Pairs, SpanGroup, StoredEvent, StoredLink, StoredResource, StoredScope, StoredSpan, StoredStatus,
};

/// The attribute that holds Jaeger's warnings about a span.
const WARNINGS: &str = "@jaeger@warnings";

/// The spans of a request by trace, Resource and scope, and the number of spans without valid ids.
pub(super) fn groups(request: ExportTraceServiceRequest) -> (Vec<SpanGroup>, usize) {
    let (mut groups, mut rejected) = (Vec::new(), 0);
    for of_resource in request.resource_spans {
        let resource = Arc::new(resource(of_resource.resource.unwrap_or_default()));
        for of_scope in of_resource.scope_spans {
            let scope = Arc::new(scope(of_scope.scope.unwrap_or_default()));
            let mut by_trace: HashMap<TraceId, Vec<StoredSpan>> = HashMap::new();
            for span in of_scope.spans {
                match ids(&span) {
                    Some((trace, id)) => by_trace.entry(trace).or_default().push(stored_span(span, id)),
                    None => rejected += 1,
                }
            }
            groups.extend(by_trace.into_iter().map(|(trace_id, spans)| SpanGroup {
                trace_id,
                resource: resource.clone(),
                scope: scope.clone(),
                spans,
                logs: Vec::new(),
            }));
        }
    }
    (groups, rejected)
}

fn ids(span: &Span) -> Option<(TraceId, SpanId)> {
    let trace = TraceId::from_bytes(span.trace_id.as_slice().try_into().ok()?);
    let id = SpanId::from_bytes(span.span_id.as_slice().try_into().ok()?);
    (trace != TraceId::INVALID && id != SpanId::INVALID).then_some((trace, id))
}

/// A service without a valid name gets a placeholder, by which it can be found.
fn resource(resource: Resource) -> StoredResource {
    let mut attributes = pairs(resource.attributes);
    let name = attributes.iter_mut().find(|(key, _)| key == "service.name").map(|(_, value)| value);
    let service = match &name {
        None => "missing-service-name",
        Some(AnyValue::Text(text)) if text.is_empty() => "empty-service-name",
        Some(AnyValue::Text(text)) => text,
        Some(_) => "service-name-wrong-type",
    }
    .to_owned();
    match name {
        Some(value) => *value = AnyValue::Text(service.clone()),
        None => attributes.push(("service.name".to_owned(), AnyValue::Text(service.clone()))),
    }
    StoredResource { service: service.into(), attributes }
}

fn scope(scope: InstrumentationScope) -> StoredScope {
    StoredScope { name: scope.name, version: scope.version, attributes: pairs(scope.attributes) }
}

fn stored_span(span: Span, span_id: SpanId) -> StoredSpan {
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    let mut attributes = pairs(span.attributes);
    let nanos = match end.checked_sub(start).filter(|nanos| *nanos > 0) {
        Some(nanos) => nanos,
        None => {
            warn(&mut attributes, &negative_duration_warning(start, end));
            1
        }
    };
    StoredSpan {
        span_id,
        parent: span_id_of(&span.parent_span_id),
        flags: span.flags,
        state: (!span.trace_state.is_empty()).then(|| span.trace_state.into()),
        name: span.name,
        kind: kind(span.kind),
        start: time(start),
        duration: Duration::from_nanos(nanos),
        attributes,
        dropped_attributes: span.dropped_attributes_count,
        events: span.events.into_iter().map(event).collect(),
        dropped_events: span.dropped_events_count,
        links: span.links.into_iter().map(link).collect(),
        status: span.status.map(end_status).unwrap_or_default(),
    }
}

fn span_id_of(bytes: &[u8]) -> SpanId {
    bytes.try_into().map_or(SpanId::INVALID, SpanId::from_bytes)
}

fn kind(kind: i32) -> Option<SpanKind> {
    match span::SpanKind::try_from(kind).unwrap_or_default() {
        span::SpanKind::Unspecified => None,
        span::SpanKind::Internal => Some(SpanKind::Internal),
        span::SpanKind::Server => Some(SpanKind::Server),
        span::SpanKind::Client => Some(SpanKind::Client),
        span::SpanKind::Producer => Some(SpanKind::Producer),
        span::SpanKind::Consumer => Some(SpanKind::Consumer),
    }
}

fn end_status(status: Status) -> StoredStatus {
    match status::StatusCode::try_from(status.code).unwrap_or_default() {
        status::StatusCode::Unset => StoredStatus::Unset,
        status::StatusCode::Ok => StoredStatus::Ok,
        status::StatusCode::Error => StoredStatus::Error(status.message),
    }
}

fn event(event: span::Event) -> StoredEvent {
    StoredEvent {
        name: event.name,
        time: time(event.time_unix_nano),
        attributes: pairs(event.attributes),
        dropped_attributes: event.dropped_attributes_count,
    }
}

fn link(link: span::Link) -> StoredLink {
    StoredLink {
        trace_id: link.trace_id.as_slice().try_into().map_or(TraceId::INVALID, TraceId::from_bytes),
        span_id: span_id_of(&link.span_id),
        state: link.trace_state,
        attributes: pairs(link.attributes),
    }
}

fn pairs(attributes: Vec<KeyValue>) -> Pairs {
    attributes.into_iter().map(|pair| (pair.key, any(pair.value))).collect()
}

fn any(value: Option<Any>) -> AnyValue {
    match value.and_then(|any| any.value) {
        Some(Value::StringValue(text)) => AnyValue::Text(text),
        Some(Value::BoolValue(truth)) => AnyValue::Boolean(truth),
        Some(Value::IntValue(number)) => AnyValue::Int(number),
        Some(Value::DoubleValue(number)) => AnyValue::Double(number),
        Some(Value::BytesValue(bytes)) => AnyValue::Bytes(bytes),
        Some(Value::ArrayValue(list)) => AnyValue::List(list.values.into_iter().map(|item| any(Some(item))).collect()),
        Some(Value::KvlistValue(list)) => AnyValue::Map(pairs(list.values)),
        _ => AnyValue::Empty,
    }
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Adds a warning to the attribute of Jaeger's warnings.
fn warn(attributes: &mut Pairs, warning: &str) {
    let warning = AnyValue::Text(warning.to_owned());
    match attributes.iter_mut().find(|(key, _)| key == WARNINGS) {
        Some((_, AnyValue::List(known))) => known.push(warning),
        _ => attributes.push((WARNINGS.to_owned(), AnyValue::List(vec![warning]))),
    }
}

fn negative_duration_warning(start: u64, end: u64) -> String {
    let (end, new) = (go_time(end), go_time(start.saturating_add(1)));
    format!("Negative duration detected, sanitizing end timestamp. Original end timestamp: {end}, adjusted to: {new}")
}

/// A time in the format of Go.
fn go_time(nanos: u64) -> String {
    let at = OffsetDateTime::from(time(nanos));
    let (date, clock) = (at.date(), at.time());
    let fraction = format!(".{:09}", clock.nanosecond());
    let (hour, minute, second) = clock.as_hms();
    format!(
        "{date} {hour:02}:{minute:02}:{second:02}{} +0000 UTC",
        fraction.trim_end_matches('0').trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(trace: &[u8], id: &[u8]) -> Span {
        Span {
            trace_id: trace.to_vec(),
            span_id: id.to_vec(),
            start_time_unix_nano: 5,
            end_time_unix_nano: 9,
            ..Span::default()
        }
    }

    fn request(spans: Vec<Span>, resource: Option<Resource>) -> ExportTraceServiceRequest {
        use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        }
    }

    #[test]
    fn spans_are_grouped_by_trace_and_those_without_valid_ids_are_rejected() {
        let spans = vec![span(&[1; 16], &[1; 8]), span(&[2; 16], &[2; 8]), span(&[1; 16], &[3; 8])];
        let bad = vec![span(&[0; 16], &[1; 8]), span(&[1; 15], &[1; 8]), span(&[1; 16], &[]), span(&[1; 16], &[0; 8])];
        let (groups, rejected) = groups(request([spans, bad].concat(), None));
        let mut counts: Vec<_> = groups.iter().map(|group| group.spans.len()).collect();
        counts.sort_unstable();
        assert_eq!((counts, rejected), (vec![1, 2], 4));
        assert_eq!(&*groups[0].resource.service, "missing-service-name");
    }

    #[test]
    fn a_service_without_a_valid_name_gets_a_placeholder() {
        let named = |value| {
            let pair = KeyValue { key: "service.name".to_owned(), value: Some(Any { value }), ..KeyValue::default() };
            resource(Resource { attributes: vec![pair], ..Resource::default() }).service.to_string()
        };
        assert_eq!(named(Some(Value::StringValue("shop".to_owned()))), "shop");
        assert_eq!(named(Some(Value::StringValue(String::new()))), "empty-service-name");
        assert_eq!(named(Some(Value::IntValue(1))), "service-name-wrong-type");
        assert_eq!(named(None), "service-name-wrong-type");
    }

    #[test]
    fn a_span_that_ends_before_it_starts_is_kept_with_a_warning() {
        let span =
            Span { end_time_unix_nano: 1_500_000_000, start_time_unix_nano: 2_000_000_000, ..span(&[1; 16], &[1; 8]) };
        let (groups, _) = groups(request(vec![span], None));
        let span = &groups[0].spans[0];
        assert_eq!(span.duration, Duration::from_nanos(1));
        let warnings = span.attribute(WARNINGS).unwrap().to_string();
        assert!(
            warnings.contains("1970-01-01 00:00:01.5 +0000 UTC, adjusted to: 1970-01-01 00:00:02.000000001 +0000 UTC"),
            "{warnings}"
        );
    }
}

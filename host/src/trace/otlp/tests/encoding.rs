//! Checks that the encoded bytes equal those of the generated messages.

use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind, TraceId};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event as ProtoEvent, Link as ProtoLink, SpanKind as ProtoKind};
use opentelemetry_proto::tonic::trace::v1::{Span as ProtoSpan, Status as ProtoStatus, status::StatusCode};
use proptest::prelude::*;
use prost::Message;

use super::super::attributes::{Attribute, Attributes, Value};
use super::super::batch::{self, Payload};
use super::super::encode::{self, Encoded};
use crate::trace::segment::{Event, Link, Segment, Severity, Span, Status};
use crate::trace::tests::{log, segment, span};

fn attributes() -> impl Strategy<Value = Attributes> {
    proptest::collection::vec(("[a-f.]{1,4}", "\\PC{0,200}"), 0..6)
        .prop_map(|given| given.iter().map(|(key, value)| Attribute::new(key, value)).collect())
}

/// An attribute as a generated message.
fn pair(attribute: Attribute<'_>) -> KeyValue {
    let Value::Text(text) = attribute.value else { panic!("{attribute:?}") };
    let value = any_value::Value::StringValue(text.to_owned());
    KeyValue { key: attribute.key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn any_span() -> impl Strategy<Value = Span> {
    let ids = (1_u64.., any::<u64>(), any::<bool>(), 0..5_u8);
    let times = (0..u64::MAX / 4, 0..u64::MAX / 4);
    let events = proptest::collection::vec(("\\PC{0,9}", attributes(), 0..3_u32), 0..3);
    let status = prop_oneof![Just(Status::Unset), Just(Status::Ok), "\\PC{0,9}".prop_map(Status::Error)];
    let rest = (attributes(), 0..3_u32, 0..3_u32, status);
    (ids, times, "\\PC{0,200}", events, rest).prop_map(|(ids, times, name, events, rest)| {
        let (id, parent, parent_is_remote, kind) = ids;
        let kinds = [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];
        let start = std::time::UNIX_EPOCH + Duration::from_nanos(times.0);
        let event = |(name, attributes, dropped_attributes): (String, _, _)| Event {
            name: name.into(),
            time: start,
            attributes,
            dropped_attributes,
        };
        let links = vec![Link {
            trace_id: TraceId::from(u128::from(id) + 1),
            span_id: SpanId::from(id),
            state: "a=b".to_owned(),
            attributes: rest.0.clone(),
            dropped_attributes: rest.1,
        }];
        Span {
            span_id: SpanId::from(id),
            parent: SpanId::from(parent),
            parent_is_remote,
            name: name.into(),
            kind: kinds[kind as usize].clone(),
            start,
            duration: Duration::from_nanos(times.1),
            attributes: rest.0,
            dropped_attributes: rest.1,
            events: events.into_iter().map(event).collect(),
            dropped_events: rest.2,
            links,
            dropped_links: rest.2,
            status: rest.3,
        }
    })
}

/// A span as a generated message.
fn expected(segment: &Segment, span: &Span) -> ProtoSpan {
    let shared = segment.shared.iter().filter(|shared| !span.attributes.contains(shared.key));
    let status = match &span.status {
        Status::Unset => ProtoStatus::default(),
        Status::Ok => ProtoStatus { message: String::new(), code: StatusCode::Ok as i32 },
        Status::Error(message) => ProtoStatus { message: message.clone(), code: StatusCode::Error as i32 },
    };
    let event = |event: &Event| ProtoEvent {
        time_unix_nano: encode::nanos(event.time),
        name: event.name.clone().into_owned(),
        attributes: event.attributes.iter().map(pair).collect(),
        dropped_attributes_count: event.dropped_attributes,
    };
    let link = |link: &Link| ProtoLink {
        trace_id: link.trace_id.to_bytes().to_vec(),
        span_id: link.span_id.to_bytes().to_vec(),
        trace_state: link.state.clone(),
        attributes: link.attributes.iter().map(pair).collect(),
        dropped_attributes_count: link.dropped_attributes,
        flags: 0,
    };
    let kind = match span.kind {
        SpanKind::Internal => ProtoKind::Internal,
        SpanKind::Server => ProtoKind::Server,
        SpanKind::Client => ProtoKind::Client,
        SpanKind::Producer => ProtoKind::Producer,
        SpanKind::Consumer => ProtoKind::Consumer,
    };
    ProtoSpan {
        trace_id: segment.trace_id.to_bytes().to_vec(),
        span_id: span.span_id.to_bytes().to_vec(),
        trace_state: segment.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: if span.parent == SpanId::INVALID { Vec::new() } else { span.parent.to_bytes().to_vec() },
        flags: if span.parent_is_remote { 0x301 } else { 0x101 },
        name: span.name.clone().into_owned(),
        kind: kind as i32,
        start_time_unix_nano: encode::nanos(span.start),
        end_time_unix_nano: encode::nanos(span.start + span.duration),
        attributes: span.attributes.iter().chain(shared).map(pair).collect(),
        dropped_attributes_count: span.dropped_attributes,
        events: span.events.iter().map(event).collect(),
        dropped_events_count: span.dropped_events,
        links: span.links.iter().map(link).collect(),
        dropped_links_count: span.dropped_links,
        status: Some(status),
    }
}

fn encoded(segment: &Segment, encode: fn(&Segment, &mut Vec<u8>)) -> Encoded {
    let mut bytes = Vec::new();
    encode(segment, &mut bytes);
    Encoded { resource: segment.resource.clone(), items: segment.spans.len().max(1) as u64, bytes }
}

fn payloads(segments: &[Segment], most: usize) -> Vec<Payload> {
    batch::requests(segments.iter().map(|segment| encoded(segment, encode::spans)).collect(), most)
}

fn decoded(segments: &[Segment], most: usize) -> Vec<ExportTraceServiceRequest> {
    let whole = payloads(segments, most).into_iter().map(|payload| payload.body.whole());
    whole.map(|body| ExportTraceServiceRequest::decode(body).unwrap()).collect()
}

proptest! {
    #[test]
    fn spans_are_encoded_like_the_generated_messages(
        spans in proptest::collection::vec(any_span(), 1..5), shared in attributes(), state in proptest::option::of("[a-z]=[a-z]"),
    ) {
        let empty = segment("shop", 0, Vec::new());
        let state = state.map(Into::into);
        let segment = Segment { spans, shared, state, trace_id: TraceId::from(7_u128), ..empty };
        let expected: Vec<_> = segment.spans.iter().map(|span| expected(&segment, span)).collect();
        let payloads = payloads(&[segment], 512);
        prop_assert_eq!(payloads.len(), 1);
        let body = payloads[0].body.whole();
        let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
        prop_assert_eq!(&request.encode_to_vec(), &body, "the shortest form, with nothing left over");
        prop_assert_eq!(body.len(), payloads[0].body.len());
        prop_assert_eq!(&request.resource_spans[0].scope_spans[0].spans, &expected);
    }
}

#[test]
fn a_request_groups_spans_by_resource() {
    let user = segment("user-service", 1, vec![span(1, 0, "GET /users", SpanKind::Server)]);
    let product = segment("product-service", 1, vec![span(2, 1, "GET /products", SpanKind::Server)]);
    let again = Segment { spans: vec![span(3, 0, "GET /users/1", SpanKind::Server)], ..user.clone() };
    let requests = decoded(&[user, product, again], 512);
    assert_eq!(requests.len(), 1);
    let groups = requests[0].resource_spans.iter().map(|group| {
        let attributes = &group.resource.as_ref().unwrap().attributes;
        let name = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
        let any_value::Value::StringValue(name) = name.value.clone().unwrap().value.unwrap() else { panic!() };
        (name, group.scope_spans.iter().map(|scope| scope.spans.len()).sum::<usize>())
    });
    assert_eq!(groups.collect::<Vec<_>>(), [("user-service".to_owned(), 2), ("product-service".to_owned(), 1)]);
    assert!(requests[0].resource_spans.iter().all(|group| group.schema_url.contains("/1.44.0")));
}

#[test]
fn a_request_holds_at_most_the_configured_number_of_spans() {
    let spans = (1..=25).map(|id| span(id, 0, "work", SpanKind::Internal)).collect();
    let requests = decoded(&[segment("shop", 1, spans)], 10);
    let counts = requests.iter().map(|request| request.resource_spans[0].scope_spans[0].spans.len());
    assert_eq!(counts.collect::<Vec<_>>(), [10, 10, 5]);
}

#[test]
fn large_spans_are_spread_over_several_requests() {
    let mut large = span(1, 0, "work", SpanKind::Internal);
    large.attributes = [Attribute::new("text", &"x".repeat(900_000))].into_iter().collect();
    let payloads = payloads(&[segment("shop", 1, vec![large; 10])], 512);
    assert!(payloads.iter().all(|payload| payload.body.len() < 4 << 20));
    assert_eq!(payloads.iter().map(|payload| payload.items).sum::<u64>(), 10);
}

#[test]
fn log_records_carry_the_ids_of_their_span() {
    let mut made = segment("shop", 7, Vec::new());
    made.shared = [Attribute::new("business.user_id", "1")].into_iter().collect();
    made.logs.push(log(Severity::Warn, "look here"));
    let body = batch::requests(vec![encoded(&made, encode::logs)], 512)[0].body.whole();
    let request = ExportLogsServiceRequest::decode(body.clone()).unwrap();
    assert_eq!(request.encode_to_vec(), body);
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!(record.trace_id, 7_u128.to_be_bytes());
    assert_eq!(record.span_id, 1_u64.to_be_bytes());
    assert_eq!((record.severity_number, record.severity_text.as_str(), record.flags), (13, "WARN", 1));
    assert_eq!(
        record.body,
        Some(opentelemetry_proto::tonic::common::v1::AnyValue {
            value: Some(any_value::Value::StringValue("look here".to_owned())),
        })
    );
    assert_eq!(record.attributes[0].key, "business.user_id");
}

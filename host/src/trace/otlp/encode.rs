//! Segments as OTLP: spans and log records grouped by Resource, shared attributes put on every span.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind as ProtoKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use crate::trace::segment::{self, Segment};
use crate::trace::source::Source;

/// The version of the semantic conventions that names and attributes follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";
/// Flags of a span: the trace is sampled, and it is known whether the parent is remote.
const SAMPLED: u32 = 0x01;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The spans of a batch.
pub(super) fn spans(batch: &[Arc<Segment>]) -> ExportTraceServiceRequest {
    let groups = by_source(batch, |segment| !segment.spans.is_empty());
    let resource_spans = groups.into_iter().map(|(source, segments)| ResourceSpans {
        resource: Some(resource(source)),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope()),
            spans: segments.iter().flat_map(|segment| segment.spans.iter().map(|each| span(segment, each))).collect(),
            schema_url: SCHEMA.to_owned(),
        }],
        schema_url: SCHEMA.to_owned(),
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

/// The log records of a batch.
pub(super) fn logs(batch: &[Arc<Segment>]) -> ExportLogsServiceRequest {
    let groups = by_source(batch, |segment| !segment.logs.is_empty());
    let resource_logs = groups.into_iter().map(|(source, segments)| ResourceLogs {
        resource: Some(resource(source)),
        scope_logs: vec![ScopeLogs {
            scope: Some(scope()),
            log_records: segments
                .iter()
                .flat_map(|segment| segment.logs.iter().map(|each| log(segment, each)))
                .collect(),
            schema_url: SCHEMA.to_owned(),
        }],
        schema_url: SCHEMA.to_owned(),
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
}

type Groups<'a> = Vec<(&'a Source, Vec<&'a Segment>)>;

fn by_source(batch: &[Arc<Segment>], wanted: impl Fn(&Segment) -> bool) -> Groups<'_> {
    let mut groups: BTreeMap<*const Source, (&Source, Vec<&Segment>)> = BTreeMap::new();
    for segment in batch.iter().filter(|segment| wanted(segment)) {
        let group = groups.entry(Arc::as_ptr(&segment.source)).or_insert_with(|| (&segment.source, Vec::new()));
        group.1.push(segment);
    }
    groups.into_values().collect()
}

fn resource(source: &Source) -> Resource {
    Resource { attributes: source.resource().iter().map(Into::into).collect(), ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "spandrel".to_owned(), version, ..InstrumentationScope::default() }
}

fn span(segment: &Segment, span: &segment::Span) -> Span {
    let remote = if span.parent_is_remote { IS_REMOTE } else { 0 };
    let mut attributes: Vec<KeyValue> = Vec::with_capacity(span.attributes.len() + segment.shared.len());
    attributes.extend(span.attributes.iter().map(KeyValue::from));
    let own = |key: &opentelemetry::Key| span.attributes.iter().any(|attribute| attribute.key == *key);
    attributes.extend(segment.shared.iter().filter(|shared| !own(&shared.key)).map(KeyValue::from));
    Span {
        trace_id: segment.trace_id.to_bytes().to_vec(),
        span_id: span.span_id.to_bytes().to_vec(),
        trace_state: segment.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: if span.parent == SpanId::INVALID { Vec::new() } else { span.parent.to_bytes().to_vec() },
        flags: SAMPLED | HAS_IS_REMOTE | remote,
        name: span.name.clone().into_owned(),
        kind: kind(&span.kind) as i32,
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.start + span.duration),
        attributes,
        dropped_attributes_count: span.dropped_attributes,
        events: span.events.iter().map(event).collect(),
        dropped_events_count: span.dropped_events,
        status: Some(status(&span.status)),
        ..Span::default()
    }
}

fn kind(kind: &SpanKind) -> ProtoKind {
    match kind {
        SpanKind::Server => ProtoKind::Server,
        SpanKind::Client => ProtoKind::Client,
        SpanKind::Producer => ProtoKind::Producer,
        SpanKind::Consumer => ProtoKind::Consumer,
        SpanKind::Internal => ProtoKind::Internal,
    }
}

fn status(status: &segment::Status) -> Status {
    match status {
        segment::Status::Unset => Status::default(),
        segment::Status::Error(message) => Status { message: message.clone(), code: StatusCode::Error as i32 },
    }
}

fn event(event: &segment::Event) -> Event {
    Event {
        time_unix_nano: nanos(event.time),
        name: event.name.clone().into_owned(),
        attributes: event.attributes.iter().map(Into::into).collect(),
        dropped_attributes_count: event.dropped_attributes,
    }
}

fn log(segment: &Segment, record: &segment::LogRecord) -> LogRecord {
    LogRecord {
        time_unix_nano: nanos(record.time),
        observed_time_unix_nano: nanos(record.time),
        severity_number: record.severity.number(),
        severity_text: record.severity.text().to_owned(),
        body: Some(AnyValue { value: Some(any_value::Value::StringValue(record.body.clone())) }),
        attributes: record.attributes.iter().chain(&segment.shared).map(Into::into).collect(),
        flags: u32::from(segment.sampled),
        trace_id: segment.trace_id.to_bytes().to_vec(),
        span_id: record.span_id.to_bytes().to_vec(),
        ..LogRecord::default()
    }
}

pub(super) fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

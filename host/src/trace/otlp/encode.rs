//! Encodes the spans and log records of a segment as OTLP, each with the shared attributes.
//!
//! Records are encoded when the request ends, while the segment is still in the CPU caches. Only the encoded form is
//! kept for export.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind};

use super::attributes::{Attributes, SPAN_ATTRIBUTES};
use super::protobuf::Writer;
use crate::trace::resource::Resource;
use crate::trace::segment::{Event, Link, LogRecord, Segment, Span, Status};

/// The flags of a span: sampled, and whether the parent is remote.
const SAMPLED: u32 = 0x01;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// `STATUS_CODE_OK`.
const OK: u64 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;
/// The initial capacity in bytes: enough for the spans of a small request.
const USUAL_SIZE: usize = 4096;
/// The bytes of a span or log record in addition to its attributes, at least.
const RECORD_OVERHEAD: usize = 64;

/// Encoded spans or log records of one Resource.
#[derive(Clone, Debug)]
pub(in crate::trace) struct Encoded {
    /// Their Resource.
    pub resource: Arc<Resource>,
    /// Their number.
    pub items: u64,
    /// Each of them as field 2 of `ScopeSpans` or `ScopeLogs`.
    pub bytes: Vec<u8>,
}

/// Appends the spans of a segment to `bytes`, each as field 2 of `ScopeSpans`.
pub(super) fn spans(segment: &Segment, bytes: &mut Vec<u8>) {
    let shared = segment.shared.size();
    append(bytes, |writer| {
        for each in &segment.spans {
            let size = RECORD_OVERHEAD + each.attributes.size() + shared;
            writer.message_of_about(2, size, |writer| span(writer, segment, each));
        }
    });
}

/// Appends the log records of a segment to `bytes`, each as field 2 of `ScopeLogs`.
pub(super) fn logs(segment: &Segment, bytes: &mut Vec<u8>) {
    let shared = segment.shared.size();
    append(bytes, |writer| {
        for each in &segment.logs {
            let size = RECORD_OVERHEAD + each.body.len() + each.attributes.size() + shared;
            writer.message_of_about(2, size, |writer| log(writer, segment, each));
        }
    });
}

fn append(bytes: &mut Vec<u8>, fields: impl FnOnce(&mut Writer)) {
    let mut writer = Writer::continuing(std::mem::take(bytes), USUAL_SIZE);
    fields(&mut writer);
    *bytes = writer.into_bytes();
}

pub(super) fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn span(writer: &mut Writer, segment: &Segment, span: &Span) {
    writer.text(1, segment.trace_id.to_bytes());
    writer.text(2, span.span_id.to_bytes());
    writer.text(3, segment.state.as_deref().unwrap_or_default());
    if span.parent != SpanId::INVALID {
        writer.text(4, span.parent.to_bytes());
    }
    writer.text(5, span.name.as_bytes());
    writer.uint(6, kind(&span.kind));
    writer.fixed64(7, nanos(span.start));
    writer.fixed64(8, nanos(span.start + span.duration));
    span.attributes.write(writer, SPAN_ATTRIBUTES, &segment.shared);
    writer.uint(10, u64::from(span.dropped_attributes));
    span.events.iter().for_each(|each| writer.message(11, |writer| event(writer, each)));
    writer.uint(12, u64::from(span.dropped_events));
    span.links.iter().for_each(|each| writer.message(13, |writer| link(writer, each)));
    writer.uint(14, u64::from(span.dropped_links));
    writer.message(15, |writer| match &span.status {
        Status::Unset => {}
        Status::Ok => writer.uint(3, OK),
        Status::Error(message) => {
            writer.text(2, message);
            writer.uint(3, ERROR);
        }
    });
    writer.fixed32(16, SAMPLED | HAS_IS_REMOTE | if span.parent_is_remote { IS_REMOTE } else { 0 });
}

fn kind(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn event(writer: &mut Writer, event: &Event) {
    writer.fixed64(1, nanos(event.time));
    writer.text(2, event.name.as_bytes());
    event.attributes.write(writer, 3, &Attributes::default());
    writer.uint(4, u64::from(event.dropped_attributes));
}

fn link(writer: &mut Writer, link: &Link) {
    writer.text(1, link.trace_id.to_bytes());
    writer.text(2, link.span_id.to_bytes());
    writer.text(3, link.state.as_bytes());
    link.attributes.write(writer, 4, &Attributes::default());
    writer.uint(5, u64::from(link.dropped_attributes));
}

fn log(writer: &mut Writer, segment: &Segment, record: &LogRecord) {
    writer.fixed64(1, nanos(record.time));
    writer.uint(2, record.severity.number() as u64);
    writer.text(3, record.severity.text());
    writer.message(5, |body| body.present_text(1, &record.body));
    record.attributes.write(writer, 6, &segment.shared);
    writer.uint(7, u64::from(record.dropped_attributes));
    writer.fixed32(8, u32::from(segment.sampled));
    writer.text(9, segment.trace_id.to_bytes());
    writer.text(10, record.span_id.to_bytes());
    writer.fixed64(11, nanos(record.time));
}

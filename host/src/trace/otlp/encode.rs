//! Segments as OTLP: spans and log records grouped by Resource, shared attributes put on each of them.
//!
//! A batch becomes one request, or several where it would be larger than collectors take.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry::{Array, KeyValue, Value};

use super::protobuf::Writer;
use crate::trace::segment::{Event, LogRecord, Segment, Span, Status};
use crate::trace::source::Source;

/// The version of the semantic conventions that names and attributes follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";
/// The size at which a request is closed. Collectors take 4 MiB over gRPC unless told otherwise.
const REQUEST_BYTES: usize = 3 << 20;
/// Flags of a span: the trace is sampled, and it is known whether the parent is remote.
const SAMPLED: u32 = 0x01;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub body: Bytes,
    /// How many spans, log records or metrics it holds.
    pub items: u64,
}

/// The spans of a batch, at most so many in a request.
pub(super) fn spans(batch: &[Arc<Segment>], most: usize) -> Vec<Payload> {
    let mut packer = Packer::new(most);
    for (source, segments) in by_source(batch, |segment| !segment.spans.is_empty()) {
        packer.open(source);
        for segment in segments {
            segment.spans.iter().for_each(|each| packer.add(|writer| span(writer, segment, each)));
        }
        packer.close();
    }
    packer.finish()
}

/// The log records of a batch, at most so many in a request.
pub(super) fn logs(batch: &[Arc<Segment>], most: usize) -> Vec<Payload> {
    let mut packer = Packer::new(most);
    for (source, segments) in by_source(batch, |segment| !segment.logs.is_empty()) {
        packer.open(source);
        for segment in segments {
            segment.logs.iter().for_each(|each| packer.add(|writer| log(writer, segment, each)));
        }
        packer.close();
    }
    packer.finish()
}

pub(super) fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

type Groups<'a> = Vec<(&'a Arc<Source>, Vec<&'a Segment>)>;

/// There are few sources in a batch, so looking through them is as good as any map.
fn by_source(batch: &[Arc<Segment>], wanted: impl Fn(&Segment) -> bool) -> Groups<'_> {
    let mut groups: Groups<'_> = Vec::new();
    for segment in batch.iter().filter(|segment| wanted(segment)) {
        match groups.iter_mut().find(|(source, _)| Arc::ptr_eq(source, &segment.source)) {
            Some((_, segments)) => segments.push(segment),
            None => groups.push((&segment.source, vec![segment])),
        }
    }
    groups
}

/// Fills one request after the other.
///
/// Requests for traces and for logs have the same shape: groups by Resource in field 1, in each of them the Resource in
/// field 1 and groups by scope in field 2, in each of those the scope in field 1 and the items in field 2.
struct Packer<'a> {
    most: usize,
    done: Vec<Payload>,
    request: Writer,
    items_in_request: usize,
    source: Option<&'a Source>,
    /// The items of this source that belong to this request.
    items: Writer,
}

impl<'a> Packer<'a> {
    fn new(most: usize) -> Packer<'a> {
        let (request, items) = (Writer::with_capacity(1 << 16), Writer::with_capacity(1 << 16));
        Packer { most: most.max(1), done: Vec::new(), request, items_in_request: 0, source: None, items }
    }

    fn open(&mut self, source: &'a Source) {
        self.source = Some(source);
    }

    fn add(&mut self, item: impl FnOnce(&mut Writer)) {
        self.items.message(2, item);
        self.items_in_request += 1;
        if self.items_in_request >= self.most || self.request.len() + self.items.len() >= REQUEST_BYTES {
            self.close();
            self.send();
        }
    }

    /// Ends the group of this source in this request.
    fn close(&mut self) {
        let items = std::mem::take(&mut self.items).into_bytes();
        let Some(source) = self.source.filter(|_| !items.is_empty()) else { return };
        self.request.message(1, |group| {
            group.message(1, |resource| attributes(resource, 1, source.resource().iter()));
            group.message(2, |scoped| {
                scoped.message(1, |scope| {
                    scope.text(1, "spandrel");
                    scope.text(2, env!("CARGO_PKG_VERSION"));
                });
                scoped.raw(&items);
                scoped.text(3, SCHEMA);
            });
            group.text(3, SCHEMA);
        });
    }

    fn send(&mut self) {
        let items = std::mem::take(&mut self.items_in_request) as u64;
        if items > 0 {
            let body = std::mem::take(&mut self.request).into_bytes().into();
            self.done.push(Payload { body, items });
        }
    }

    fn finish(mut self) -> Vec<Payload> {
        self.send();
        self.done
    }
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
    attributes(writer, 9, with_shared(&span.attributes, &segment.shared));
    writer.uint(10, u64::from(span.dropped_attributes));
    span.events.iter().for_each(|each| writer.message(11, |writer| event(writer, each)));
    writer.uint(12, u64::from(span.dropped_events));
    writer.message(15, |writer| {
        if let Status::Error(message) = &span.status {
            writer.text(2, message);
            writer.uint(3, ERROR);
        }
    });
    writer.fixed32(16, SAMPLED | HAS_IS_REMOTE | if span.parent_is_remote { IS_REMOTE } else { 0 });
}

/// What stands on an item itself goes before what its segment shares.
fn with_shared<'a>(own: &'a [KeyValue], shared: &'a [KeyValue]) -> impl Iterator<Item = &'a KeyValue> {
    let more = shared.iter().filter(|shared| !own.iter().any(|attribute| attribute.key == shared.key));
    own.iter().chain(more)
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
    attributes(writer, 3, event.attributes.iter());
    writer.uint(4, u64::from(event.dropped_attributes));
}

fn log(writer: &mut Writer, segment: &Segment, record: &LogRecord) {
    writer.fixed64(1, nanos(record.time));
    writer.uint(2, record.severity.number() as u64);
    writer.text(3, record.severity.text());
    writer.message(5, |body| body.present_text(1, &record.body));
    attributes(writer, 6, with_shared(&record.attributes, &segment.shared));
    writer.fixed32(8, u32::from(segment.sampled));
    writer.text(9, segment.trace_id.to_bytes());
    writer.text(10, record.span_id.to_bytes());
    writer.fixed64(11, nanos(record.time));
}

fn attributes<'a>(writer: &mut Writer, field: u64, attributes: impl Iterator<Item = &'a KeyValue>) {
    for attribute in attributes {
        writer.message(field, |pair| {
            pair.text(1, attribute.key.as_str());
            pair.message(2, |any| value(any, &attribute.value));
        });
    }
}

fn value(any: &mut Writer, value: &Value) {
    match value {
        Value::String(text) => any.present_text(1, text.as_str()),
        Value::Bool(truth) => any.present_uint(2, u64::from(*truth)),
        Value::I64(number) => any.present_uint(3, *number as u64),
        Value::F64(number) => any.present_double(4, *number),
        Value::Array(values) => any.message(5, |list| array(list, values)),
        other => any.present_text(1, other.to_string()),
    }
}

fn array(list: &mut Writer, values: &Array) {
    match values {
        Array::String(texts) => texts.iter().for_each(|text| list.message(1, |any| any.present_text(1, text.as_str()))),
        Array::Bool(truths) => {
            truths.iter().for_each(|truth| list.message(1, |any| any.present_uint(2, u64::from(*truth))));
        }
        Array::I64(numbers) => {
            numbers.iter().for_each(|number| list.message(1, |any| any.present_uint(3, *number as u64)))
        }
        Array::F64(numbers) => numbers.iter().for_each(|number| list.message(1, |any| any.present_double(4, *number))),
        other => list.message(1, |any| any.present_text(1, other.to_string())),
    }
}

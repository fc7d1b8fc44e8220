//! Collects the host's own traces for the readers within the process: the store of recent traces and the terminal.
//!
//! The SDK reports spans as they end. They are collected with the log records of their trace until its root span ends,
//! and then become one segment, like the records of a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::logs::AnyValue;
use opentelemetry::trace::{Span as _, SpanId, Status as SdkStatus, TraceId};
use opentelemetry::{Array, Context, InstrumentationScope, Value as SdkValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span as SdkSpan, SpanData, SpanProcessor};

use crate::trace::otlp::{Attribute, Attributes, Value};
use crate::trace::pipeline::Pipeline;
use crate::trace::resource::Resource;
use crate::trace::segment::{LogRecord, Segment, Severity, Span, Status};

/// The most pending traces. Further traces are not collected.
const MAX_PENDING_TRACES: usize = 256;
/// The most spans, and the most log records, of one trace.
const MAX_RECORDS: usize = 1024;

/// The collector of pending traces. Clones share it.
#[derive(Clone)]
pub(super) struct LocalTraces {
    pipeline: Pipeline,
    resource: Arc<Resource>,
    pending: Arc<Mutex<HashMap<TraceId, Pending>>>,
}

#[derive(Default)]
struct Pending {
    spans: Vec<SpanData>,
    logs: Vec<LogRecord>,
}

impl std::fmt::Debug for LocalTraces {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LocalTraces")
    }
}

impl LocalTraces {
    pub fn new(pipeline: &Pipeline, resource: &Arc<Resource>) -> LocalTraces {
        LocalTraces { pipeline: pipeline.clone(), resource: resource.clone(), pending: Arc::default() }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<TraceId, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, trace: TraceId) {
        let mut pending = self.pending();
        if pending.len() < MAX_PENDING_TRACES {
            pending.entry(trace).or_default();
        }
    }

    /// Adds a span. The root span completes the trace.
    fn end(&self, span: SpanData) {
        let (trace, is_root) = (span.span_context.trace_id(), span.parent_span_id == SpanId::INVALID);
        let mut all = self.pending();
        let Some(pending) = all.get_mut(&trace) else { return };
        if is_root || pending.spans.len() < MAX_RECORDS {
            pending.spans.push(span);
        }
        let complete = if is_root { all.remove(&trace) } else { None };
        drop(all);
        if let Some(complete) = complete {
            self.pipeline.deliver_locally(self.segment(trace, complete));
        }
    }

    fn segment(&self, trace: TraceId, Pending { mut spans, logs }: Pending) -> Segment {
        // Parents end after their children. Reversing puts them first even if both started at the same time.
        spans.reverse();
        spans.sort_by_key(|span| (span.parent_span_id != SpanId::INVALID, span.start_time));
        let spans = spans.into_iter().map(span).collect();
        Segment { sampled: true, spans, logs, ..Segment::empty(self.resource.clone(), trace) }
    }
}

impl SpanProcessor for LocalTraces {
    fn on_start(&self, span: &mut SdkSpan, _context: &Context) {
        if span.span_context().is_sampled() {
            self.begin(span.span_context().trace_id());
        }
    }

    fn on_end(&self, span: SpanData) {
        self.end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _limit: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl LogProcessor for LocalTraces {
    fn emit(&self, record: &mut SdkLogRecord, _scope: &InstrumentationScope) {
        let Some(context) = record.trace_context() else { return };
        let mut all = self.pending();
        if let Some(pending) = all.get_mut(&context.trace_id).filter(|pending| pending.logs.len() < MAX_RECORDS) {
            pending.logs.push(log(record, context.span_id));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
}

fn span(data: SpanData) -> Span {
    let mut attributes = Attributes::default();
    for pair in &data.attributes {
        set(&mut attributes, pair.key.as_str(), &pair.value);
    }
    let status = match data.status {
        SdkStatus::Unset => Status::Unset,
        SdkStatus::Ok => Status::Ok,
        SdkStatus::Error { description } => Status::Error(description.into_owned()),
    };
    Span {
        span_id: data.span_context.span_id(),
        parent: data.parent_span_id,
        parent_is_remote: data.parent_span_is_remote,
        name: data.name,
        kind: data.span_kind,
        start: data.start_time,
        duration: data.end_time.duration_since(data.start_time).unwrap_or_default(),
        attributes,
        dropped_attributes: data.dropped_attributes_count,
        events: Vec::new(),
        dropped_events: 0,
        links: Vec::new(),
        dropped_links: 0,
        status,
    }
}

fn set(attributes: &mut Attributes, key: &str, value: &SdkValue) {
    let text;
    let value = match value {
        SdkValue::Bool(truth) => Value::Boolean(*truth),
        SdkValue::I64(number) => Value::Int(*number),
        SdkValue::F64(number) => Value::Double(*number),
        SdkValue::String(text) => Value::Text(text.as_str()),
        SdkValue::Array(Array::String(texts)) => Value::Texts(texts.iter().map(|text| text.as_str()).collect()),
        other => {
            text = other.to_string();
            Value::Text(&text)
        }
    };
    attributes.set(&Attribute { key, value });
}

fn log(record: &SdkLogRecord, span_id: SpanId) -> LogRecord {
    let mut attributes = Attributes::default();
    for (key, value) in record.attributes_iter() {
        let written = text(value);
        let value = match value {
            AnyValue::Int(number) => Value::Int(*number),
            AnyValue::Double(number) => Value::Double(*number),
            AnyValue::Boolean(truth) => Value::Boolean(*truth),
            _ => Value::Text(&written),
        };
        attributes.set(&Attribute { key: key.as_str(), value });
    }
    let time = record.timestamp().or(record.observed_timestamp()).unwrap_or_else(SystemTime::now);
    let severity = match record.severity_number().map_or(9, |severity| severity as i32) {
        ..5 => Severity::Trace,
        5..9 => Severity::Debug,
        9..13 => Severity::Info,
        13..17 => Severity::Warn,
        17..21 => Severity::Error,
        21.. => Severity::Fatal,
    };
    let body = record.body().map(text).unwrap_or_default();
    LogRecord { time, severity, body, attributes, dropped_attributes: 0, span_id }
}

/// A value as text. Tracing events have only strings, numbers and booleans.
fn text(value: &AnyValue) -> String {
    match value {
        AnyValue::String(text) => text.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}

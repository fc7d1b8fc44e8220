//! Spans, log records and metrics through `wasi:otel`. A span is exported when it ends. Its parent is the host's outer
//! span, or another span of this component.

mod metrics;
mod values;

use std::cell::RefCell;

use super::propagation;
use crate::host::{Attribute, Header, Severity, SpanKind};
use crate::proposals::wasi::otel::tracing::{
    Event, SpanContext, SpanData, SpanKind as OtelKind, Status, TraceFlags, on_end, on_start, outer_span_context,
};
use crate::proposals::wasi::otel::{logs, types::KeyValue};

pub use self::metrics::{Counter, Histogram};

thread_local! {
    /// The host's span of the current request.
    static OUTER: RefCell<Option<SpanContext>> = RefCell::default();
}

/// Gets the host's span.
pub fn begin() {
    let outer = outer_span_context();
    let is_valid = [&outer.trace_id, &outer.span_id].iter().all(|id| id.bytes().any(|digit| digit != b'0'));
    OUTER.set(is_valid.then_some(outer));
}

fn outer() -> Option<SpanContext> {
    OUTER.with_borrow(Clone::clone)
}

/// Whether the host records the request's trace.
pub fn recording() -> bool {
    outer().is_some_and(|outer| outer.trace_flags.contains(TraceFlags::SAMPLED))
}

/// The trace context for calls to other services: that of `parent`, otherwise that of the incoming request.
pub fn context(parent: Option<&Span>) -> Vec<Header> {
    let mut fields = propagation::incoming();
    if let Some(parent) = parent {
        fields.retain(|field| field.name != "traceparent");
        let SpanContext { trace_id, span_id, .. } = &parent.context;
        let value = format!("00-{trace_id:0>32}-{span_id:0>16}-01").into_bytes();
        fields.push(Header { name: "traceparent".to_owned(), value });
    }
    fields
}

/// A started span. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    context: SpanContext,
    data: RefCell<SpanData>,
}

impl Span {
    pub fn start<'a>(
        name: &str,
        kind: SpanKind,
        parent: Option<&Span>,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
    ) -> Self {
        let parent = parent.map(|parent| parent.context.clone()).or_else(outer);
        let context = child_of(parent.as_ref());
        on_start(&context);
        let data = SpanData {
            span_context: context.clone(),
            parent_span_id: parent.map(|parent| parent.span_id).unwrap_or_default(),
            span_kind: otel_kind(kind),
            name: name.to_owned(),
            start_time: values::now(),
            end_time: values::now(),
            attributes: attributes.into_iter().map(values::attribute).collect(),
            events: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
            instrumentation_scope: values::scope(),
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
        };
        Self { context, data: RefCell::new(data) }
    }

    pub fn rename(&self, name: &str) {
        name.clone_into(&mut self.data.borrow_mut().name);
    }

    pub fn set_attributes<'a>(&self, attributes: impl IntoIterator<Item = Attribute<'a>>) {
        let mut data = self.data.borrow_mut();
        attributes.into_iter().map(values::attribute).for_each(|attribute| set(&mut data.attributes, attribute));
    }

    pub fn add_event(&self, name: &str, attributes: &[Attribute<'_>]) {
        let attributes = attributes.iter().cloned().map(values::attribute).collect();
        self.data.borrow_mut().events.push(Event { name: name.to_owned(), time: values::now(), attributes });
    }

    /// The status `OK` is final.
    pub fn set_error(&self, kind: &str, message: &str) {
        let mut data = self.data.borrow_mut();
        set(&mut data.attributes, KeyValue { key: "error.type".to_owned(), value: values::text(kind) });
        if !matches!(data.status, Status::Ok) {
            data.status = Status::Error(message.to_owned());
        }
    }

    pub fn set_ok(&self) {
        self.data.borrow_mut().status = Status::Ok;
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let mut data = self.data.borrow_mut();
        data.end_time = values::now();
        on_end(&data);
    }
}

/// Sets an attribute, replacing an earlier value of the same key.
fn set(attributes: &mut Vec<KeyValue>, attribute: KeyValue) {
    match attributes.iter_mut().find(|existing| existing.key == attribute.key) {
        Some(existing) => existing.value = attribute.value,
        None => attributes.push(attribute),
    }
}

/// The context of a new span in the trace of `parent`. Spans are only started if there is one.
fn child_of(parent: Option<&SpanContext>) -> SpanContext {
    SpanContext {
        trace_id: parent.map(|parent| parent.trace_id.clone()).unwrap_or_default(),
        span_id: format!("{:016x}", wasip2::random::random::get_random_u64().max(1)),
        trace_flags: TraceFlags::SAMPLED,
        is_remote: false,
        trace_state: parent.map(|parent| parent.trace_state.clone()).unwrap_or_default(),
    }
}

fn otel_kind(kind: SpanKind) -> OtelKind {
    match kind {
        SpanKind::Internal => OtelKind::Internal,
        SpanKind::Server => OtelKind::Server,
        SpanKind::Client => OtelKind::Client,
        SpanKind::Producer => OtelKind::Producer,
        SpanKind::Consumer => OtelKind::Consumer,
    }
}

/// `wasi:otel` cannot change spans of the host. An exception is still logged.
pub fn add_request_event(_: &str, _: &[Attribute<'_>]) {}

/// The host derives the failure from the status code of the response.
pub fn set_request_error(_: &str, _: &str) {}

/// Emits a log record for `span`, or for the host's span.
pub fn log(severity: Severity, body: &str, span: Option<&Span>, attributes: &[Attribute<'_>]) {
    let context = span.map(|span| span.context.clone()).or_else(outer);
    let (text, number) = severity_of(severity);
    logs::on_emit(&logs::LogRecord {
        timestamp: Some(values::now()),
        observed_timestamp: None,
        severity_text: Some(text.to_owned()),
        severity_number: Some(number),
        body: Some(values::text(body)),
        attributes: Some(attributes.iter().cloned().map(values::attribute).collect()),
        event_name: None,
        resource: None,
        instrumentation_scope: Some(values::scope()),
        trace_id: context.as_ref().map(|context| context.trace_id.clone()),
        span_id: context.as_ref().map(|context| context.span_id.clone()),
        trace_flags: context.map(|context| context.trace_flags),
    });
}

/// The text and number of a severity, as in the OpenTelemetry log data model.
fn severity_of(severity: Severity) -> (&'static str, u8) {
    match severity {
        Severity::Trace => ("TRACE", 1),
        Severity::Debug => ("DEBUG", 5),
        Severity::Info => ("INFO", 9),
        Severity::Warn => ("WARN", 13),
        Severity::Error => ("ERROR", 17),
    }
}

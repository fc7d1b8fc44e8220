//! `spandrel:service/tracing`: spans and log records of the request that the instance is serving.
//!
//! A guest's handle holds the span's position in the request's recorder and which of the instance's requests it
//! belongs to, so that a handle kept from an earlier request means nothing in a later one.

use wasmtime::component::Resource;

use crate::component::bindings::spandrel::service::tracing::{Attribute, Host, HostSpan, Severity, Value};
use crate::component::{Environment, State};
use crate::trace::{self, KeyValue, SpanKind, SpanRef};

/// The attribute that makes a guest span an operation: the host measures it, counts it, and adds what it cost.
const OPERATION_TYPE: &str = "custom.operation_type";

/// A guest's span. Only its handle exists; the span itself is in the recorder.
pub struct GuestSpan;

impl From<Attribute> for KeyValue {
    fn from(attribute: Attribute) -> KeyValue {
        let Attribute { key, value } = attribute;
        match value {
            Value::Text(text) => KeyValue::new(key, text),
            Value::Int(number) => KeyValue::new(key, number),
            Value::Double(number) => KeyValue::new(key, number),
            Value::Boolean(truth) => KeyValue::new(key, truth),
            Value::Texts(texts) => {
                let texts = texts.into_iter().map(opentelemetry::StringValue::from).collect();
                KeyValue::new(key, opentelemetry::Value::Array(opentelemetry::Array::String(texts)))
            }
        }
    }
}

impl From<Severity> for trace::Severity {
    fn from(severity: Severity) -> trace::Severity {
        match severity {
            Severity::Trace => trace::Severity::Trace,
            Severity::Debug => trace::Severity::Debug,
            Severity::Info => trace::Severity::Info,
            Severity::Warn => trace::Severity::Warn,
            Severity::Error => trace::Severity::Error,
        }
    }
}

impl State {
    /// The span behind a handle, or the server span where there is none or where the handle is stale.
    pub(super) fn parent(&self, handle: Option<&Resource<GuestSpan>>) -> Option<SpanRef> {
        let recorder = &self.request.as_ref()?.recorder;
        Some(handle.and_then(|handle| self.span(handle)).unwrap_or_else(|| recorder.server()))
    }

    fn span(&self, handle: &Resource<GuestSpan>) -> Option<SpanRef> {
        let (sequence, index) = ((handle.rep() >> 16) as u16, handle.rep() & 0xffff);
        (sequence == self.sequence).then(|| SpanRef::from_index(index))
    }

    fn handle(&self, span: SpanRef) -> Resource<GuestSpan> {
        let index = span.index().min(0xffff);
        Resource::new_own((u32::from(self.sequence) << 16) | index)
    }
}

impl Host for State {
    fn recording(&mut self) -> wasmtime::Result<bool> {
        Ok(self.request.as_ref().is_some_and(|request| request.recorder.is_recording()))
    }

    fn set_request_attributes(&mut self, attributes: Vec<Attribute>) -> wasmtime::Result<()> {
        if let Some(request) = &mut self.request {
            let server = request.recorder.server();
            set_all(&mut request.recorder, server, attributes);
        }
        Ok(())
    }

    fn log(
        &mut self,
        severity: Severity,
        body: String,
        span: Option<Resource<GuestSpan>>,
        attributes: Vec<Attribute>,
    ) -> wasmtime::Result<()> {
        let parent = self.parent(span.as_ref());
        if let (Some(parent), Some(request)) = (parent, &mut self.request) {
            let attributes = attributes.into_iter().map(Into::into).collect();
            request.recorder.log(parent, severity.into(), body, attributes);
        }
        Ok(())
    }
}

impl crate::component::bindings::spandrel::service::http::Host for State {}

impl HostSpan for State {
    fn start(
        &mut self,
        name: String,
        parent: Option<Resource<GuestSpan>>,
        attributes: Vec<Attribute>,
    ) -> wasmtime::Result<Resource<GuestSpan>> {
        let parent = self.parent(parent.as_ref());
        let span = match (parent, &mut self.request) {
            (Some(parent), Some(request)) if request.recorder.is_recording() => {
                let attributes = attributes.into_iter().map(Into::into).collect();
                request.recorder.start(name, SpanKind::Internal, parent, attributes)
            }
            _ => SpanRef::NONE,
        };
        Ok(self.handle(span))
    }

    fn set_attributes(&mut self, span: Resource<GuestSpan>, attributes: Vec<Attribute>) -> wasmtime::Result<()> {
        if let (Some(span), Some(request)) = (self.span(&span), &mut self.request) {
            set_all(&mut request.recorder, span, attributes);
        }
        Ok(())
    }

    fn add_event(
        &mut self,
        span: Resource<GuestSpan>,
        name: String,
        attributes: Vec<Attribute>,
    ) -> wasmtime::Result<()> {
        if let (Some(span), Some(request)) = (self.span(&span), &mut self.request) {
            request.recorder.event(span, name, attributes.into_iter().map(Into::into).collect());
        }
        Ok(())
    }

    fn set_error(&mut self, span: Resource<GuestSpan>, kind: String, message: String) -> wasmtime::Result<()> {
        if let (Some(span), Some(request)) = (self.span(&span), &mut self.request) {
            request.recorder.fail(span, &kind, message);
        }
        Ok(())
    }

    fn drop(&mut self, handle: Resource<GuestSpan>) -> wasmtime::Result<()> {
        let Some(span) = self.span(&handle) else { return Ok(()) };
        let environment = self.environment().clone();
        if let Some(request) = &mut self.request {
            end(&mut request.recorder, span, &environment);
        }
        Ok(())
    }
}

fn set_all(recorder: &mut trace::Recorder, span: SpanRef, attributes: Vec<Attribute>) {
    for attribute in attributes {
        recorder.set(span, attribute.into());
    }
}

/// Ends a span; an operation also gets its own cost and is counted.
fn end(recorder: &mut trace::Recorder, span: SpanRef, environment: &Environment) {
    recorder.end(span);
    let Some(operation) = recorder.text_attribute(span, OPERATION_TYPE).map(str::to_owned) else { return };
    let Some(duration) = recorder.duration(span) else { return };
    recorder.set(span, KeyValue::new("performance.execution_time_ms", duration.as_secs_f64() * 1e3));
    recorder.set(span, KeyValue::new("system.memory_usage_mb", environment.process.memory_mb()));
    environment.metrics.operation(&operation, recorder.name(span), duration, recorder.has_failed(span));
}

//! `spandrel:service/tracing`: spans and log records of the request that the instance serves.
//!
//! A handle contains the index of the span in the request's recorder and the number of the request, so that a handle
//! kept from an earlier request is ignored.

use wasmtime::component::Resource;

use super::operation;
use crate::component::bindings::spandrel::service::tracing as wit;
use crate::component::bindings::spandrel::service::tracing::{Host, HostSpan, Severity};
use crate::component::resources::GuestSpan;
use crate::component::{ServiceContext, StoreData};
use crate::trace::{self, Attribute, SpanKind, SpanRef, Value};

/// Borrows the attributes of a guest.
fn borrowed(attributes: &[wit::Attribute]) -> impl Iterator<Item = Attribute<'_>> {
    attributes.iter().map(|wit::Attribute { key, value }| {
        let value = match value {
            wit::Value::Text(text) => Value::Text(text),
            wit::Value::Int(number) => Value::Int(*number),
            wit::Value::Double(number) => Value::Double(*number),
            wit::Value::Boolean(truth) => Value::Boolean(*truth),
            wit::Value::Texts(texts) => Value::Texts(texts.iter().map(String::as_str).collect()),
        };
        Attribute { key, value }
    })
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

impl From<wit::SpanKind> for SpanKind {
    fn from(kind: wit::SpanKind) -> SpanKind {
        match kind {
            wit::SpanKind::Internal => SpanKind::Internal,
            wit::SpanKind::Server => SpanKind::Server,
            wit::SpanKind::Client => SpanKind::Client,
            wit::SpanKind::Producer => SpanKind::Producer,
            wit::SpanKind::Consumer => SpanKind::Consumer,
        }
    }
}

impl StoreData {
    /// The span of a handle; the server span if there is no handle or it is stale.
    pub(super) fn parent(&self, handle: Option<&Resource<GuestSpan>>) -> Option<SpanRef> {
        let recorder = &self.request.as_ref()?.recorder;
        Some(handle.and_then(|handle| self.span(handle)).unwrap_or_else(|| recorder.server()))
    }

    fn span(&self, handle: &Resource<GuestSpan>) -> Option<SpanRef> {
        let (sequence, index) = ((handle.rep() >> 16) as u16, handle.rep() & 0xffff);
        (sequence == self.sequence).then(|| SpanRef::from_index(index))
    }

    fn start_span<'a>(
        &mut self,
        (name, kind): (String, SpanKind),
        parent: Option<&Resource<GuestSpan>>,
        attributes: impl Iterator<Item = Attribute<'a>>,
    ) -> Resource<GuestSpan> {
        let parent = self.parent(parent);
        let span = match (parent, &mut self.request) {
            (Some(parent), Some(request)) if request.recorder.is_recording() => {
                let span = request.recorder.start(name, kind, parent);
                request.recorder.set_guest_attributes(span, attributes);
                span
            }
            _ => SpanRef::NONE,
        };
        self.handle(span)
    }

    fn set_all<'a>(&mut self, span: &Resource<GuestSpan>, attributes: impl Iterator<Item = Attribute<'a>>) {
        if let (Some(span), Some(request)) = (self.span(span), &mut self.request) {
            request.recorder.set_guest_attributes(span, attributes);
        }
    }

    /// Updates a span of the current request.
    fn update_span(&mut self, span: &Resource<GuestSpan>, update: impl FnOnce(&mut trace::Recorder, SpanRef)) {
        if let (Some(span), Some(request)) = (self.span(span), &mut self.request) {
            update(&mut request.recorder, span);
        }
    }

    fn handle(&self, span: SpanRef) -> Resource<GuestSpan> {
        let index = span.index().min(0xffff);
        Resource::new_own((u32::from(self.sequence) << 16) | index)
    }
}

impl Host for StoreData {
    fn recording(&mut self) -> wasmtime::Result<bool> {
        Ok(self.request.as_ref().is_some_and(|request| request.recorder.is_recording()))
    }

    fn set_request_attributes(&mut self, attributes: Vec<wit::Attribute>) -> wasmtime::Result<()> {
        if let Some(request) = &mut self.request {
            let server = request.recorder.server();
            request.recorder.set_guest_attributes(server, borrowed(&attributes));
        }
        Ok(())
    }

    fn add_request_event(&mut self, name: String, attributes: Vec<wit::Attribute>) -> wasmtime::Result<()> {
        if let Some(request) = &mut self.request {
            let server = request.recorder.server();
            request.recorder.event(server, name, borrowed(&attributes));
        }
        Ok(())
    }

    fn set_request_error(&mut self, kind: String, message: String) -> wasmtime::Result<()> {
        if let Some(request) = &mut self.request {
            let server = request.recorder.server();
            request.recorder.fail(server, &kind, message);
        }
        Ok(())
    }

    fn log(
        &mut self,
        severity: Severity,
        body: String,
        span: Option<Resource<GuestSpan>>,
        attributes: Vec<wit::Attribute>,
    ) -> wasmtime::Result<()> {
        let parent = self.parent(span.as_ref());
        if let (Some(parent), Some(request)) = (parent, &mut self.request) {
            request.recorder.log(parent, severity.into(), body, borrowed(&attributes));
        }
        Ok(())
    }
}

impl crate::component::bindings::spandrel::service::http::Host for StoreData {}

impl HostSpan for StoreData {
    fn start(
        &mut self,
        name: String,
        parent: Option<Resource<GuestSpan>>,
        attributes: Vec<wit::Attribute>,
    ) -> wasmtime::Result<Resource<GuestSpan>> {
        Ok(self.start_span((name, SpanKind::Internal), parent.as_ref(), borrowed(&attributes)))
    }

    fn start_encoded(
        &mut self,
        name: String,
        parent: Option<Resource<GuestSpan>>,
        attributes: Vec<u8>,
    ) -> wasmtime::Result<Resource<GuestSpan>> {
        Ok(self.start_span((name, SpanKind::Internal), parent.as_ref(), trace::decode_attributes(&attributes)))
    }

    fn start_of_kind(
        &mut self,
        name: String,
        kind: wit::SpanKind,
        parent: Option<Resource<GuestSpan>>,
        attributes: Vec<u8>,
    ) -> wasmtime::Result<Resource<GuestSpan>> {
        Ok(self.start_span((name, kind.into()), parent.as_ref(), trace::decode_attributes(&attributes)))
    }

    fn rename(&mut self, span: Resource<GuestSpan>, name: String) -> wasmtime::Result<()> {
        self.update_span(&span, |recorder, span| recorder.rename(span, name));
        Ok(())
    }

    fn set_attributes(&mut self, span: Resource<GuestSpan>, attributes: Vec<wit::Attribute>) -> wasmtime::Result<()> {
        self.set_all(&span, borrowed(&attributes));
        Ok(())
    }

    fn set_encoded_attributes(&mut self, span: Resource<GuestSpan>, attributes: Vec<u8>) -> wasmtime::Result<()> {
        self.set_all(&span, trace::decode_attributes(&attributes));
        Ok(())
    }

    fn add_event(
        &mut self,
        span: Resource<GuestSpan>,
        name: String,
        attributes: Vec<wit::Attribute>,
    ) -> wasmtime::Result<()> {
        self.update_span(&span, |recorder, span| recorder.event(span, name, borrowed(&attributes)));
        Ok(())
    }

    fn set_error(&mut self, span: Resource<GuestSpan>, kind: String, message: String) -> wasmtime::Result<()> {
        self.update_span(&span, |recorder, span| {
            if !recorder.is_ok(span) {
                recorder.fail(span, &kind, message);
            }
        });
        Ok(())
    }

    fn set_ok(&mut self, span: Resource<GuestSpan>) -> wasmtime::Result<()> {
        self.update_span(&span, trace::Recorder::set_ok);
        Ok(())
    }

    fn drop(&mut self, handle: Resource<GuestSpan>) -> wasmtime::Result<()> {
        let Some(span) = self.span(&handle) else { return Ok(()) };
        let context = self.context().clone();
        if let Some(request) = &mut self.request {
            end(&mut request.recorder, span, &context);
        }
        Ok(())
    }
}

/// Ends a span.
fn end(recorder: &mut trace::Recorder, span: SpanRef, context: &ServiceContext) {
    recorder.end(span);
    operation::record(recorder, span, context);
}

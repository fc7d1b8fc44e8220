//! Operations of the host and their steps.

use opentelemetry::Value;
use opentelemetry::trace::Status;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::HostTelemetry;

/// A span of the host's own subscriber. It ends on drop.
struct HostSpan {
    span: Span,
    telemetry: HostTelemetry,
}

/// An operation of the host, usually the root span of a trace. It ends on drop.
pub(crate) struct Operation {
    name: &'static str,
    /// The `error.type` of the operation if it fails, and of its unfinished steps.
    error_type: &'static str,
    host_span: HostSpan,
}

/// A step of an operation. If it is dropped before it has ended, its span ends as an error.
pub(crate) struct Step {
    name: &'static str,
    host_span: HostSpan,
    /// The `error.type` if it is dropped; `None` after it has ended.
    open_error_type: Option<&'static str>,
}

impl HostTelemetry {
    /// Starts an operation. `error_type` is its `error.type` if it fails.
    pub(crate) fn operation(&self, name: &'static str, error_type: &'static str) -> Operation {
        Operation { name, error_type, host_span: HostSpan::root(self, name) }
    }
}

impl Operation {
    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Starts an operation as a child of this one.
    pub fn operation(&self, name: &'static str, error_type: &'static str) -> Operation {
        Operation { name, error_type, host_span: self.host_span.child(name) }
    }

    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.host_span.span.set_attribute(key, value);
    }

    /// Sets the status to error.
    pub fn fail(&self, message: &str) {
        fail(&self.host_span.span, self.error_type, message);
    }

    /// Starts a step.
    pub fn start(&self, name: &'static str) -> Step {
        Step { name, host_span: self.host_span.child(name), open_error_type: Some(self.error_type) }
    }

    /// Runs a step. If it fails, its span has the step's name as `error.type`.
    pub async fn step<T, E: std::fmt::Display>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.start(name).run(work).await
    }

    /// Runs `work` within the operation: its log lines belong to the operation.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        work.instrument(self.host_span.span.clone()).await
    }

    /// Calls `log`, whose log lines belong to the operation.
    pub fn log(&self, log: impl FnOnce()) {
        self.host_span.span.in_scope(|| self.host_span.telemetry.log(log));
    }
}

impl Step {
    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.host_span.span.set_attribute(key, value);
    }

    /// Sets the status to error.
    pub fn fail(&self, kind: &'static str, message: &str) {
        fail(&self.host_span.span, kind, message);
    }

    /// Runs the work of the step and ends the step.
    pub async fn run<T, E: std::fmt::Display>(mut self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let done = work.instrument(self.host_span.span.clone()).await;
        if let Err(error) = &done {
            self.fail(self.name, &error.to_string());
        }
        self.open_error_type = None;
        done
    }

    /// Ends the step.
    pub fn end(mut self) {
        self.open_error_type = None;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(kind) = self.open_error_type {
            self.fail(kind, "the operation ended before this step did");
        }
    }
}

fn fail(span: &Span, kind: &'static str, message: &str) {
    span.set_attribute("error.type", kind);
    span.set_status(Status::error(message.to_owned()));
}

impl HostSpan {
    /// The root of a trace. For the subscriber every span is a root: if it knew the parent, the end of the child would
    /// look the parent up in the current subscriber, which may be another one.
    fn root(telemetry: &HostTelemetry, name: &'static str) -> HostSpan {
        let span = telemetry.with_span_subscriber(|| tracing::info_span!(parent: None, "operation", otel.name = name));
        HostSpan { span, telemetry: telemetry.clone() }
    }

    fn child(&self, name: &'static str) -> HostSpan {
        let child = HostSpan::root(&self.telemetry, name);
        // Fails if there is no subscriber of spans; nothing is recorded then.
        let _ = child.span.set_parent(self.span.context());
        child
    }
}

impl Drop for HostSpan {
    fn drop(&mut self) {
        // The layer takes the time of the last exit as the end, so the span is entered once more.
        self.span.in_scope(|| {});
    }
}

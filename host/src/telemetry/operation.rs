//! One thing that the host does, and its steps.

use opentelemetry::Value;
use opentelemetry::trace::Status;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::HostTelemetry;

/// A span of the host's own subscriber. It ends when this is dropped.
struct HostSpan {
    span: Span,
    telemetry: HostTelemetry,
}

/// One thing that the host does, most often as the root span of a trace of its own. It ends when it is dropped.
pub(crate) struct Operation {
    name: &'static str,
    /// The `error.type` of the operation where it fails, and of steps that it leaves open.
    failure: &'static str,
    of: HostSpan,
}

/// A part of an operation. One that is dropped before it has ended was given up: its span is an error.
pub(crate) struct Step {
    name: &'static str,
    of: HostSpan,
    /// The `error.type` where it is given up; none when it has ended.
    open: Option<&'static str>,
}

impl HostTelemetry {
    /// Starts an operation; `failure` is its `error.type` where it fails.
    pub(crate) fn operation(&self, name: &'static str, failure: &'static str) -> Operation {
        Operation { name, failure, of: HostSpan::root(self, name) }
    }
}

impl Operation {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Starts an operation that is a part of this one.
    pub fn operation(&self, name: &'static str, failure: &'static str) -> Operation {
        Operation { name, failure, of: self.of.child(name) }
    }

    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.of.span.set_attribute(key, value);
    }

    /// Says that it failed.
    pub fn fail(&self, message: &str) {
        fail(&self.of.span, self.failure, message);
    }

    /// Starts a step.
    pub fn start(&self, name: &'static str) -> Step {
        Step { name, of: self.of.child(name), open: Some(self.failure) }
    }

    /// Does a step. Where it fails, its span has its name as `error.type`.
    pub async fn step<T, E: std::fmt::Display>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.start(name).run(work).await
    }

    /// Does something within the operation: what is logged meanwhile belongs to it.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        work.instrument(self.of.span.clone()).await
    }

    /// Logs something that belongs to the operation.
    pub fn log(&self, log: impl FnOnce()) {
        self.of.span.in_scope(|| self.of.telemetry.log(log));
    }
}

impl Step {
    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.of.span.set_attribute(key, value);
    }

    /// Says that it failed.
    pub fn fail(&self, kind: &'static str, message: &str) {
        fail(&self.of.span, kind, message);
    }

    /// Does the work of the step, and ends it.
    pub async fn run<T, E: std::fmt::Display>(mut self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let done = work.instrument(self.of.span.clone()).await;
        if let Err(error) = &done {
            self.fail(self.name, &error.to_string());
        }
        self.open = None;
        done
    }

    /// Ends it.
    pub fn end(mut self) {
        self.open = None;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(kind) = self.open {
            self.fail(kind, "the operation ended before this step did");
        }
    }
}

fn fail(span: &Span, kind: &'static str, message: &str) {
    span.set_attribute("error.type", kind);
    span.set_status(Status::error(message.to_owned()));
}

impl HostSpan {
    /// The root of a trace. To the subscriber every span is one: where a parent is its affair, the end of the child makes it
    /// look for the parent in whatever subscriber is the current one.
    fn root(telemetry: &HostTelemetry, name: &'static str) -> HostSpan {
        let span = telemetry.within(|| tracing::info_span!(parent: None, "operation", otel.name = name));
        HostSpan { span, telemetry: telemetry.clone() }
    }

    fn child(&self, name: &'static str) -> HostSpan {
        let child = HostSpan::root(&self.telemetry, name);
        // It cannot where nobody takes spans, and then it need not.
        let _ = child.span.set_parent(self.span.context());
        child
    }
}

impl Drop for HostSpan {
    fn drop(&mut self) {
        // It would end when it was last entered.
        self.span.in_scope(|| {});
    }
}

//! The status of a span as its service decides it, before it crosses to the host.
//!
//! OpenTelemetry ranks the status codes: `OK` is final, and `ERROR` replaces only what is unset. What a service says
//! explicitly (`error.type`, `otel.status_code`, [`fail_span`](crate::fail_span)) wins over what this library derives
//! from a problem or from an `#[instrument(err)]`; derived values fill in what the service left open.

use crate::host;

/// The `error.type` of a failure to which nobody gave a type, as OpenTelemetry's semantic conventions have it.
const UNNAMED: &str = "_OTHER";

/// What is known of a span that did not simply end.
#[derive(Debug, Default)]
pub struct Outcome {
    ok: bool,
    kind: Option<String>,
    message: Option<String>,
}

impl Outcome {
    /// Sets the status code `OK`. Nothing changes it afterwards.
    pub fn accept(&mut self, span: &host::Span) {
        self.ok = true;
        span.set_ok();
    }

    /// Marks the span as failed, on the service's word.
    pub fn fail(&mut self, span: &host::Span, kind: Option<&str>, message: Option<&str>) {
        replace(&mut self.kind, kind);
        replace(&mut self.message, message);
        self.send(span);
    }

    /// Marks the span as failed with what this library derived. It replaces nothing that the service said.
    pub fn derive(&mut self, span: &host::Span, kind: Option<&str>, message: &str) {
        self.kind = self.kind.take().or_else(|| kind.map(str::to_owned));
        self.message.get_or_insert_with(|| message.to_owned());
        self.send(span);
    }

    fn send(&self, span: &host::Span) {
        if !self.ok {
            let (kind, message) = (self.kind.as_deref(), self.message.as_deref());
            span.set_error(kind.unwrap_or(UNNAMED), message.unwrap_or_default());
        }
    }
}

fn replace(known: &mut Option<String>, said: Option<&str>) {
    if let Some(said) = said {
        *known = Some(said.to_owned());
    }
}

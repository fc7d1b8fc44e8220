//! The status of a span, resolved before it is sent to the host.
//!
//! As in OpenTelemetry, `OK` is final, and `ERROR` replaces only an unset status. What a service sets explicitly
//! (`error.type`, `otel.status_code`, [`fail_span`](crate::fail_span)) takes precedence over what this library derives
//! from a problem or from `#[instrument(err)]`; derived values fill in what the service has not set.

use crate::host;

/// The `error.type` of a failure without a specific type, as defined by OpenTelemetry's semantic conventions.
const OTHER_ERROR: &str = "_OTHER";

/// The status of a span that is not unset.
#[derive(Debug, Default)]
pub struct SpanStatus {
    ok: bool,
    kind: Option<String>,
    message: Option<String>,
}

impl SpanStatus {
    /// Sets the status code `OK`, which is final.
    pub fn set_ok(&mut self, span: &host::Span) {
        self.ok = true;
        span.set_ok();
    }

    /// Marks the span as failed, as set by the service.
    pub fn fail(&mut self, span: &host::Span, kind: Option<&str>, message: Option<&str>) {
        replace(&mut self.kind, kind);
        replace(&mut self.message, message);
        self.send(span);
    }

    /// Marks the span as failed with derived values. They replace nothing that the service has set.
    pub fn derive(&mut self, span: &host::Span, kind: Option<&str>, message: &str) {
        self.kind = self.kind.take().or_else(|| kind.map(str::to_owned));
        self.message.get_or_insert_with(|| message.to_owned());
        self.send(span);
    }

    fn send(&self, span: &host::Span) {
        if !self.ok {
            let (kind, message) = (self.kind.as_deref(), self.message.as_deref());
            span.set_error(kind.unwrap_or(OTHER_ERROR), message.unwrap_or_default());
        }
    }
}

fn replace(current: &mut Option<String>, given: Option<&str>) {
    if let Some(given) = given {
        *current = Some(given.to_owned());
    }
}

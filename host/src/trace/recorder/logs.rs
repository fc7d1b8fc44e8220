//! Log records and exceptions of a recorder.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::SpanId;

use super::Recorder;
use crate::trace::otlp::{Attribute, Attributes};
use crate::trace::segment::{Event, LogRecord, Severity, SpanRef};

/// The most log records that one request may leave.
const MAX_LOG_RECORDS: usize = 1024;

impl Recorder {
    /// Writes a log record that belongs to `span`. It is kept whether or not spans are.
    pub fn log<'a>(
        &mut self,
        span: SpanRef,
        severity: Severity,
        body: String,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
    ) {
        self.log_at(span, severity, body, attributes, self.now());
    }

    /// Writes a log record of something that happened at a time that has passed.
    pub fn log_at<'a>(
        &mut self,
        span: SpanRef,
        severity: Severity,
        body: String,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
        time: SystemTime,
    ) {
        let span_id = self.span(span).map_or(self.server_span_id, |span| span.span_id);
        self.log_under_id(span_id, severity, body, attributes, time);
    }

    /// The same for a span that need not be recorded here: a guest's own SDK may have made it.
    pub fn log_under_id<'a>(
        &mut self,
        span_id: SpanId,
        severity: Severity,
        body: String,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
        time: SystemTime,
    ) {
        if self.segment.logs.len() >= MAX_LOG_RECORDS || !self.limits.reserve(size_of::<LogRecord>() + body.len()) {
            self.dropped_logs += 1;
            return;
        }
        let limits = self.limits.log_attributes();
        let (attributes, dropped_attributes) = self.limits.collect(attributes, limits);
        self.segment.logs.push(LogRecord { time, severity, body, attributes, dropped_attributes, span_id });
    }

    /// Adds an event and a log record that no limit holds for: an exception, which comes after whatever the guest
    /// recorded before, and is what one looks for.
    pub fn record_exception(&mut self, span: SpanRef, message: String, attributes: &[Attribute<'_>]) {
        let mut own = Attributes::default();
        attributes.iter().for_each(|attribute| self.limits.set_unlimited(&mut own, attribute.clone()));
        let (time, span_id) = (self.now(), self.span(span).map_or(self.server_span_id, |span| span.span_id));
        if let Some(span) = self.segment.spans.get_mut(span.index() as usize) {
            let (name, attributes) = (Cow::Borrowed("exception"), own.clone());
            span.events.push(Event { name, time, attributes, dropped_attributes: 0 });
        }
        self.push_log(Severity::Error, message, own, span_id);
    }

    /// The last log record, beyond the limit, says how many there would have been.
    pub(super) fn log_dropped_records(&mut self) {
        let body = format!("{} more log records of this request were left out", self.dropped_logs);
        self.push_log(Severity::Warn, body, Attributes::default(), self.server_span_id);
    }

    /// Writes a log record of the host's own, which no limit holds for.
    fn push_log(&mut self, severity: Severity, body: String, attributes: Attributes, span_id: SpanId) {
        let (time, dropped_attributes) = (self.now(), 0);
        self.segment.logs.push(LogRecord { time, severity, body, attributes, dropped_attributes, span_id });
    }
}

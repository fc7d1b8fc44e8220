//! Log records and exceptions of a recorder.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::SpanId;

use super::Recorder;
use crate::trace::otlp::{Attribute, Attributes};
use crate::trace::segment::{Event, LogRecord, Severity, SpanRef};

/// The most log records of one request.
const MAX_LOG_RECORDS: usize = 1024;

impl Recorder {
    /// Adds a log record of a guest that belongs to `span`. It is kept even if the trace is not sampled.
    pub fn log<'a>(
        &mut self,
        span: SpanRef,
        severity: Severity,
        body: String,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
    ) {
        let span_id = self.id_or_server(span);
        self.log_under_id(span_id, severity, body, attributes, &[], self.now());
    }

    /// Adds a log record of the server span whose attributes are those of the host. `None`: the time is now.
    pub fn log_of_host(
        &mut self,
        severity: Severity,
        body: String,
        attributes: &[Attribute<'_>],
        time: Option<SystemTime>,
    ) {
        let time = time.unwrap_or_else(|| self.now());
        self.log_under_id(self.server_span_id, severity, body, [], attributes, time);
    }

    /// Adds a log record of a span that may not be recorded here: a guest's own SDK may have created it. The attributes
    /// `of_host` do not count toward the limit of attributes.
    pub fn log_under_id<'a>(
        &mut self,
        span_id: SpanId,
        severity: Severity,
        body: String,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
        of_host: &[Attribute<'_>],
        time: SystemTime,
    ) {
        if self.segment.logs.len() >= MAX_LOG_RECORDS || !self.limits.reserve(size_of::<LogRecord>() + body.len()) {
            self.dropped_logs += 1;
            return;
        }
        let limits = self.limits.log_attributes();
        let (mut attributes, mut dropped_attributes) = self.limits.collect(attributes, limits);
        for attribute in of_host {
            let is_set = self.limits.set(&mut attributes, attribute.clone(), limits.without_count());
            dropped_attributes = dropped_attributes.saturating_add(u32::from(!is_set));
        }
        self.segment.logs.push(LogRecord { time, severity, body, attributes, dropped_attributes, span_id });
    }

    /// Counts log records that the guest has written but that could not be kept.
    pub fn leave_out_logs(&mut self, count: usize) {
        self.dropped_logs = self.dropped_logs.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Adds an exception as an event and a log record. No limits apply: an exception comes after everything else that
    /// the guest has recorded, and matters most.
    pub fn record_exception(&mut self, span: SpanRef, message: String, attributes: &[Attribute<'_>]) {
        let mut own = Attributes::default();
        attributes.iter().for_each(|attribute| self.limits.set_unlimited(&mut own, attribute.clone()));
        let (time, span_id) = (self.now(), self.id_or_server(span));
        if let Some(span) = self.segment.spans.get_mut(span.index() as usize) {
            let (name, attributes) = (Cow::Borrowed("exception"), own.clone());
            span.events.push(Event { name, time, attributes, dropped_attributes: 0 });
        }
        self.push_log(Severity::Error, message, own, span_id);
    }

    /// Adds a last log record, beyond the limit, with the number of dropped ones.
    pub(super) fn log_dropped_records(&mut self) {
        let body = format!("{} more log records of this request were left out", self.dropped_logs);
        self.push_log(Severity::Warn, body, Attributes::default(), self.server_span_id);
    }

    fn id_or_server(&self, span: SpanRef) -> SpanId {
        self.span(span).map_or(self.server_span_id, |span| span.span_id)
    }

    /// Adds a log record of the host, to which no limits apply.
    fn push_log(&mut self, severity: Severity, body: String, attributes: Attributes, span_id: SpanId) {
        let (time, dropped_attributes) = (self.now(), 0);
        self.segment.logs.push(LogRecord { time, severity, body, attributes, dropped_attributes, span_id });
    }
}

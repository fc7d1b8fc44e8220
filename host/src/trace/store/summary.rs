//! The summary of a trace for lists, updated while its parts arrive.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, TraceId};

use super::stored_part::StoredPart;

/// The root span of a trace, or the earliest span that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootSpan {
    /// Its service.
    pub service: Arc<str>,
    /// Its name.
    pub name: String,
    /// `http.response.status_code`.
    pub http_status: Option<i64>,
    /// Whether it failed.
    pub failed: bool,
    /// Whether it has no parent. Otherwise its parent has not arrived and may never do so.
    pub is_whole: bool,
}

/// The spans of one service in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpans {
    /// The service.
    pub service: Arc<str>,
    /// The number of its spans.
    pub spans: usize,
    /// The number of its failed spans.
    pub errors: usize,
}

/// The summary of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSummary {
    /// Its id.
    pub trace_id: TraceId,
    /// The root span, or the earliest one.
    pub root: Option<RootSpan>,
    /// The start of its first span.
    pub start: SystemTime,
    /// From the start of its first span to the end of its last.
    pub duration: Duration,
    /// The services, in order of arrival.
    pub services: Vec<ServiceSpans>,
    /// The number of spans.
    pub spans: usize,
    /// The number of failed spans.
    pub errors: usize,
    /// The number of log records.
    pub logs: usize,
    /// Whether parts of it were left out because it is too large.
    pub is_cut: bool,
    root_start: SystemTime,
}

impl TraceSummary {
    /// The summary of a trace before its first part.
    pub(super) fn empty(trace_id: TraceId) -> TraceSummary {
        TraceSummary {
            trace_id,
            root: None,
            start: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            services: Vec::new(),
            spans: 0,
            errors: 0,
            logs: 0,
            is_cut: false,
            root_start: SystemTime::UNIX_EPOCH,
        }
    }

    /// Adds a part. `service` is the name of its service.
    pub(super) fn add(&mut self, part: &StoredPart, service: &Arc<str>) {
        let (mut spans, mut errors) = (0, 0);
        for span in part.spans() {
            spans += 1;
            errors += usize::from(span.has_failed());
            self.stretch(span.start(), span.duration(), self.spans + spans == 1);
        }
        self.spans += spans;
        self.errors += errors;
        self.logs += part.logs();
        match self.services.iter_mut().find(|known| known.service == *service) {
            Some(known) => {
                known.spans += spans;
                known.errors += errors;
            }
            None => self.services.push(ServiceSpans { service: service.clone(), spans, errors }),
        }
        self.add_root(part, service);
    }

    fn stretch(&mut self, start: SystemTime, duration: Duration, is_first: bool) {
        if is_first {
            (self.start, self.duration) = (start, duration);
            return;
        }
        let end = (self.start + self.duration).max(start + duration);
        self.start = self.start.min(start);
        self.duration = end.duration_since(self.start).unwrap_or_default();
    }

    /// A span without a parent is the root. Until it arrives, the earliest span is used.
    fn add_root(&mut self, part: &StoredPart, service: &Arc<str>) {
        let Some(span) = part.root() else { return };
        let is_whole = span.parent() == SpanId::INVALID;
        let is_better = match &self.root {
            None => true,
            Some(known) if known.is_whole == is_whole => span.start() < self.root_start,
            Some(_) => is_whole,
        };
        if is_better {
            self.root_start = span.start();
            let (name, http_status) = (span.name().to_owned(), span.int("http.response.status_code"));
            self.root =
                Some(RootSpan { service: service.clone(), name, http_status, failed: span.has_failed(), is_whole });
        }
    }

    /// The memory that the summary takes in addition to its own size.
    pub(super) fn bytes(&self) -> usize {
        self.services.capacity() * size_of::<ServiceSpans>() + self.root.as_ref().map_or(0, |root| root.name.capacity())
    }
}

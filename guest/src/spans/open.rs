//! The open spans of the current request: a slab of host spans, and the stack of entered spans.

use std::cell::RefCell;

use tracing_core::span::Id;
use tracing_core::{Event, Metadata};

use super::active_failure::ActiveFailure;
use super::directives::{Directives, StatusCode};
use super::status::SpanStatus;
use crate::host;

thread_local! {
    /// The spans of the current request. A guest has one thread and serves one request at a time.
    pub static OPEN: RefCell<OpenSpans> = RefCell::default();
}

/// A span between its start and the drop of its last handle.
pub struct OpenSpan {
    span: host::Span,
    metadata: &'static Metadata<'static>,
    /// The number of `tracing` handles.
    handles: u32,
    /// The span's position in the order of starts, from one.
    order: u64,
    /// `None` until a status is set.
    status: Option<Box<SpanStatus>>,
}

impl OpenSpan {
    /// The span of the host.
    pub fn host(&self) -> &host::Span {
        &self.span
    }

    /// Applies the directives among the fields of the span.
    pub fn apply(&mut self, directives: &Directives<'_>) {
        if directives.status == Some(StatusCode::Ok) {
            self.status.get_or_insert_default().set_ok(&self.span);
        } else if directives.fails() {
            self.fail(directives.error_type, directives.message);
        }
    }

    /// Marks the span as failed, as set by the service.
    pub fn fail(&mut self, kind: Option<&str>, message: Option<&str>) {
        self.status.get_or_insert_default().fail(&self.span, kind, message);
    }

    /// Marks the span as failed, unless the service has set a status.
    pub fn derive_failure(&mut self, kind: Option<&str>, message: &str) {
        self.status.get_or_insert_default().derive(&self.span, kind, message);
    }
}

/// An id contains the number of the request in its upper half and the index in the slab, plus one, in its lower half,
/// so that a handle from an earlier request is recognized and ignored.
#[derive(Default)]
pub struct OpenSpans {
    request: u32,
    /// Whether the host records the request, once it was queried.
    recording: Option<bool>,
    slab: Vec<Option<OpenSpan>>,
    free: Vec<usize>,
    entered: Vec<Id>,
    started: u64,
    /// The newest failure that is being returned, and the number of failures in this instance.
    pub(super) active_failure: Option<ActiveFailure>,
    pub(super) failures: u64,
}

impl OpenSpans {
    /// Ends all spans and clears the state. Allocations are kept.
    pub fn reset(&mut self) {
        self.request = self.request.wrapping_add(1);
        self.recording = None;
        self.entered.clear();
        // Children are ended before their parents.
        while self.slab.pop().is_some() {}
        self.free.clear();
        self.started = 0;
        self.active_failure = None;
    }

    pub fn recording(&mut self) -> bool {
        *self.recording.get_or_insert_with(host::recording)
    }

    pub fn insert(&mut self, span: host::Span, metadata: &'static Metadata<'static>) -> Id {
        self.started += 1;
        let open = Some(OpenSpan { span, metadata, handles: 1, order: self.started, status: None });
        let position = match self.free.pop() {
            Some(position) => {
                self.slab[position] = open;
                position
            }
            None => {
                self.slab.push(open);
                self.slab.len() - 1
            }
        };
        Id::from_u64(u64::from(self.request) << 32 | (position as u64 + 1))
    }

    pub fn span(&self, id: &Id) -> Option<&host::Span> {
        Some(&self.open(id)?.span)
    }

    pub fn current_span(&self) -> Option<&host::Span> {
        self.span(self.entered.last()?)
    }

    /// The span of an event.
    pub fn span_of(&self, event: &Event<'_>) -> Option<&host::Span> {
        match event.parent() {
            Some(parent) => self.span(parent),
            None if event.is_contextual() => self.current_span(),
            None => None,
        }
    }

    /// The same, mutable.
    pub fn span_of_mut(&mut self, event: &Event<'_>) -> Option<&mut OpenSpan> {
        match event.parent() {
            Some(parent) => self.open_mut(parent),
            None if event.is_contextual() => self.current_mut(),
            None => None,
        }
    }

    /// The span that was entered last, mutable.
    pub fn current_mut(&mut self) -> Option<&mut OpenSpan> {
        let id = self.entered.last()?.clone();
        self.open_mut(&id)
    }

    pub fn current(&self) -> Option<(Id, &'static Metadata<'static>)> {
        let id = self.entered.last()?;
        Some((id.clone(), self.open(id)?.metadata))
    }

    pub fn enter(&mut self, id: &Id) {
        self.entered.push(id.clone());
    }

    /// Spans may be exited in any order.
    pub fn exit(&mut self, id: &Id) {
        if let Some(position) = self.entered.iter().rposition(|entered| entered == id) {
            self.entered.remove(position);
        }
    }

    pub fn add_handle(&mut self, id: &Id) {
        if let Some(open) = self.open_mut(id) {
            open.handles += 1;
        }
    }

    /// Drops one handle; the last one ends the span. Returns whether it did.
    pub fn release(&mut self, id: &Id) -> bool {
        match self.open_mut(id) {
            Some(open) if open.handles > 1 => {
                open.handles -= 1;
                false
            }
            Some(_) => {
                self.end(id);
                true
            }
            None => false,
        }
    }

    /// The number of spans that the request has started.
    pub fn started(&self) -> u64 {
        self.started
    }

    fn end(&mut self, id: &Id) {
        let Some(position) = self.position(id) else { return };
        let Some(mut ended) = self.slab.get_mut(position).and_then(Option::take) else { return };
        self.free.push(position);
        if let Some(active_failure) =
            self.active_failure.as_ref().filter(|active_failure| active_failure.covers(ended.order))
        {
            ended.derive_failure(Some(&active_failure.kind), &active_failure.message);
        }
    }

    fn open(&self, id: &Id) -> Option<&OpenSpan> {
        self.slab.get(self.position(id)?)?.as_ref()
    }

    pub fn open_mut(&mut self, id: &Id) -> Option<&mut OpenSpan> {
        let position = self.position(id)?;
        self.slab.get_mut(position)?.as_mut()
    }

    fn position(&self, id: &Id) -> Option<usize> {
        let id = id.into_u64();
        let of_this_request = (id >> 32) == u64::from(self.request);
        of_this_request.then(|| (id & u64::from(u32::MAX)) as usize - 1)
    }
}

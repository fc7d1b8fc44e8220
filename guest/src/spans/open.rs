//! The open spans of one request: a slab of host spans, and a stack of those that were entered.

use std::cell::RefCell;

use tracing_core::span::Id;
use tracing_core::{Event, Metadata};

use super::directives::{Directives, StatusCode};
use super::failing::Failing;
use super::outcome::Outcome;
use crate::host;

thread_local! {
    /// The spans of the request at hand. A guest has one thread and answers one request at a time.
    pub static OPEN: RefCell<OpenSpans> = RefCell::default();
}

/// A span between its start and the drop of its last handle.
pub struct OpenSpan {
    span: host::Span,
    metadata: &'static Metadata<'static>,
    /// How many `tracing` handles there are.
    handles: u32,
    /// Position in the order in which the request's spans were started, from one.
    order: u64,
    /// None as long as nobody has set a status.
    outcome: Option<Box<Outcome>>,
}

impl OpenSpan {
    /// The span itself.
    pub fn host(&self) -> &host::Span {
        &self.span
    }

    /// Sets the status that the fields of the span ask for.
    pub fn obey(&mut self, directives: &Directives<'_>) {
        if directives.status == Some(StatusCode::Ok) {
            self.outcome.get_or_insert_default().accept(&self.span);
        } else if directives.fails() {
            self.fail(directives.error_type, directives.message);
        }
    }

    /// Marks the span as failed because its service says so.
    pub fn fail(&mut self, kind: Option<&str>, message: Option<&str>) {
        self.outcome.get_or_insert_default().fail(&self.span, kind, message);
    }

    /// Marks the span as failed where its service has not said otherwise.
    pub fn derive_failure(&mut self, kind: Option<&str>, message: &str) {
        self.outcome.get_or_insert_default().derive(&self.span, kind, message);
    }
}

/// An id is the number of the request in its upper half and the slab's position, from one, in its lower half. A
/// handle that a service kept from an earlier request is thereby recognised and ignored.
#[derive(Default)]
pub struct OpenSpans {
    request: u32,
    /// The host's answer for this request, once it was asked.
    recording: Option<bool>,
    slab: Vec<Option<OpenSpan>>,
    free: Vec<usize>,
    entered: Vec<Id>,
    started: u64,
    /// The newest failure that has not left the handler yet, and the number of failures of this instance.
    pub(super) failing: Option<Failing>,
    pub(super) failures: u64,
}

impl OpenSpans {
    /// Ends all spans and clears the state. The memory is kept.
    pub fn reset(&mut self) {
        self.request = self.request.wrapping_add(1);
        self.recording = None;
        self.entered.clear();
        // Children end before their parents.
        while self.slab.pop().is_some() {}
        self.free.clear();
        self.started = 0;
        self.failing = None;
    }

    pub fn recording(&mut self) -> bool {
        *self.recording.get_or_insert_with(host::recording)
    }

    pub fn insert(&mut self, span: host::Span, metadata: &'static Metadata<'static>) -> Id {
        self.started += 1;
        let open = Some(OpenSpan { span, metadata, handles: 1, order: self.started, outcome: None });
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

    /// The span that an event belongs to.
    pub fn span_of(&self, event: &Event<'_>) -> Option<&host::Span> {
        match event.parent() {
            Some(parent) => self.span(parent),
            None if event.is_contextual() => self.current_span(),
            None => None,
        }
    }

    /// The same, mutably.
    pub fn span_of_mut(&mut self, event: &Event<'_>) -> Option<&mut OpenSpan> {
        match event.parent() {
            Some(parent) => self.open_mut(parent),
            None if event.is_contextual() => self.current_mut(),
            None => None,
        }
    }

    /// The span entered last, mutably.
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

    /// Spans are usually exited in the opposite order, but need not be.
    pub fn exit(&mut self, id: &Id) {
        if let Some(position) = self.entered.iter().rposition(|entered| entered == id) {
            self.entered.remove(position);
        }
    }

    pub fn share(&mut self, id: &Id) {
        if let Some(open) = self.open_mut(id) {
            open.handles += 1;
        }
    }

    /// Drops one handle; with the last one the span ends. Returns whether it did.
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

    /// How many spans the request has started so far.
    pub fn started(&self) -> u64 {
        self.started
    }

    fn end(&mut self, id: &Id) {
        let Some(position) = self.position(id) else { return };
        let Some(mut ended) = self.slab.get_mut(position).and_then(Option::take) else { return };
        self.free.push(position);
        if let Some(failing) = self.failing.as_ref().filter(|failing| failing.leaves(ended.order)) {
            ended.derive_failure(Some(&failing.kind), &failing.message);
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

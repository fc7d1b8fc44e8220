//! The open spans of one request: a slab of host spans, and a stack of those that were entered.

use tracing_core::Metadata;
use tracing_core::span::Id;

use super::failure::Failing;
use crate::host;

/// A span between its start and the drop of its last handle.
struct OpenSpan {
    span: host::Span,
    metadata: &'static Metadata<'static>,
    /// How many `tracing` handles there are.
    handles: u32,
    /// Position in the order in which the request's spans were started.
    order: u64,
}

/// An id is the number of the request in its upper half and the slab's position, from one, in its lower half. A
/// handle that a service kept from an earlier request is thereby known, and ignored.
#[derive(Default)]
pub struct OpenSpans {
    request: u32,
    /// What the host said for this request, once it was asked.
    recording: Option<bool>,
    slab: Vec<Option<OpenSpan>>,
    free: Vec<usize>,
    entered: Vec<Id>,
    started: u64,
    /// The newest failure that is still on its way out, and how many this instance has seen.
    pub(super) failing: Option<Failing>,
    pub(super) failures: u64,
}

impl OpenSpans {
    /// Ends all spans and begins anew. The memory is kept.
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
        let open = Some(OpenSpan { span, metadata, handles: 1, order: self.started });
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

    pub fn current(&self) -> Option<(Id, &'static Metadata<'static>)> {
        let id = self.entered.last()?;
        Some((id.clone(), self.open(id)?.metadata))
    }

    pub fn enter(&mut self, id: &Id) {
        self.entered.push(id.clone());
    }

    /// Spans are usually left in the opposite order, but need not be.
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

    /// Gives one handle back; with the last one the span ends. Says whether it did.
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
        let Some(ended) = self.slab.get_mut(position).and_then(Option::take) else { return };
        self.free.push(position);
        if let Some(failing) = &self.failing {
            failing.mark(&ended.span, ended.order);
        }
    }

    fn open(&self, id: &Id) -> Option<&OpenSpan> {
        self.slab.get(self.position(id)?)?.as_ref()
    }

    fn open_mut(&mut self, id: &Id) -> Option<&mut OpenSpan> {
        let position = self.position(id)?;
        self.slab.get_mut(position)?.as_mut()
    }

    fn position(&self, id: &Id) -> Option<usize> {
        let id = id.into_u64();
        let of_this_request = (id >> 32) == u64::from(self.request);
        of_this_request.then(|| (id & u64::from(u32::MAX)) as usize - 1)
    }
}

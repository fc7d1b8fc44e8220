//! `tracing` to spans of the host.
//!
//! Every `tracing` span is a span of the host from the moment it is made to the moment its last handle is gone. Its
//! parent is the one given to `tracing`, else the span entered last in this request, else the request's server span.
//! Fields become attributes and are sent when they are recorded, so that a trap loses none. Events become span
//! events, and from level INFO up log records too. Where the host keeps no spans of the request, none are made.

mod failure;
mod fields;
mod open;

use std::cell::RefCell;
use std::sync::Once;

use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Interest, Level, Metadata, Subscriber, dispatcher};

pub use failure::Failure;
use fields::Fields;
use open::OpenSpans;

use crate::host::{self, Attribute, Severity, Value};

thread_local! {
    /// The spans of the request at hand. A guest has one thread and answers one request at a time.
    static OPEN: RefCell<OpenSpans> = RefCell::default();
}

/// Forgets everything about the request before, and makes this module the receiver of what `tracing` is told.
pub fn begin_request() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // A service that has set a subscriber of its own keeps it.
        let _ = dispatcher::set_global_default(Dispatch::new(HostSpans));
    });
    OPEN.with_borrow_mut(OpenSpans::reset);
}

/// Ends the spans that the request left open, while the host still knows them.
pub fn end_request() {
    OPEN.with_borrow_mut(OpenSpans::reset);
}

/// Hands the current span, if there is one, to a call into the host.
pub fn with_current<T>(call: impl FnOnce(Option<&host::Span>) -> T) -> T {
    OPEN.with_borrow(|open| call(open.current_span()))
}

/// Sets an attribute whose key is not known when the program is compiled.
pub fn record_on_current(key: &str, value: Value<'_>) {
    with_current(|span| {
        if let Some(span) = span {
            span.set_attributes([Attribute { key, value }]);
        }
    });
}

/// The subscriber. What it knows is in [`OPEN`].
///
/// Fields are always read before `OPEN` is borrowed: the `Debug` of a value may use `tracing` itself.
struct HostSpans;

impl Subscriber for HostSpans {
    /// Asked again each time, because whether spans are kept differs from request to request.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (metadata.is_event() && is_logged(metadata)) || OPEN.with_borrow_mut(OpenSpans::recording)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let start = |fields: &Fields| {
            OPEN.with_borrow_mut(|open| {
                let parent = match attributes.parent() {
                    Some(parent) => open.span(parent),
                    None if attributes.is_contextual() => open.current_span(),
                    None => None,
                };
                let span = host::Span::start(attributes.metadata().name(), parent, fields.attributes());
                open.insert(span, attributes.metadata())
            })
        };
        Fields::gather(|fields| attributes.record(fields), start)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let send = |fields: &Fields| {
            OPEN.with_borrow(|open| {
                if let Some(span) = open.span(span) {
                    span.set_attributes(fields.attributes());
                }
            });
        };
        Fields::gather(|fields| values.record(fields), send);
    }

    /// The host has no links between spans.
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        Fields::gather(|fields| event.record(fields), |fields| send_event(event, fields));
    }

    fn enter(&self, span: &Id) {
        OPEN.with_borrow_mut(|open| open.enter(span));
    }

    fn exit(&self, span: &Id) {
        OPEN.with_borrow_mut(|open| open.exit(span));
    }

    fn clone_span(&self, span: &Id) -> Id {
        OPEN.with_borrow_mut(|open| open.share(span));
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        OPEN.with_borrow_mut(|open| open.release(&span))
    }

    fn current_span(&self) -> Current {
        OPEN.with_borrow(|open| match open.current() {
            Some((id, metadata)) => Current::new(id, metadata),
            None => Current::none(),
        })
    }
}

/// An event becomes one of its span and, from level INFO up, a log record.
fn send_event(event: &Event<'_>, fields: &Fields) {
    let name = fields.message().unwrap_or_else(|| event.metadata().name());
    let attributes: Vec<_> = fields.attributes().collect();
    OPEN.with_borrow(|open| {
        let span = match event.parent() {
            Some(parent) => open.span(parent),
            None if event.is_contextual() => open.current_span(),
            None => None,
        };
        if let Some(span) = span {
            span.add_event(name, &attributes);
        }
        if is_logged(event.metadata()) {
            host::log(severity(event.metadata().level()), name, span, &attributes);
        }
    });
}

fn is_logged(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO
}

fn severity(level: &Level) -> Severity {
    match *level {
        Level::TRACE => Severity::Trace,
        Level::DEBUG => Severity::Debug,
        Level::INFO => Severity::Info,
        Level::WARN => Severity::Warn,
        Level::ERROR => Severity::Error,
    }
}

#[cfg(test)]
mod tests;

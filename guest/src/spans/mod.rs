//! The `tracing` subscriber, which converts `tracing` spans into spans of the host.
//!
//! A host span starts when the `tracing` span is created and ends when its last handle is dropped. Its parent is the
//! explicit parent, otherwise the span of this request that was entered last, otherwise the request's server span.
//! Fields become attributes and are sent when they are recorded, so that a trap does not lose them; those of
//! [`directives::Directives`] change the span instead. Events become span events and, from level INFO up, also log
//! records. An event that contains only an error, as created by `#[instrument(err)]`, becomes an exception and marks
//! its span as failed. If the request is not sampled, no spans are created.

mod active_failure;
mod directives;
mod exception;
mod failure;
mod fields;
mod open;
mod status;

use std::sync::Once;

use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Interest, Level, Metadata, Subscriber, dispatcher};

pub use exception::Exception;
pub use failure::Failure;
use fields::Fields;
use open::{OPEN, OpenSpans};

use crate::host::{self, Attribute, Severity, SpanKind, Value};

/// Clears the state of the previous request, and installs the subscriber on the first call.
pub fn begin_request() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // A subscriber that the service has set before stays in place.
        let _ = dispatcher::set_global_default(Dispatch::new(HostSpans));
    });
    OPEN.with_borrow_mut(OpenSpans::reset);
}

/// Ends the spans that the request left open.
pub fn end_request() {
    OPEN.with_borrow_mut(OpenSpans::reset);
}

/// Passes the current span, if there is one, to a function that calls the host.
pub fn with_current<T>(call: impl FnOnce(Option<&host::Span>) -> T) -> T {
    OPEN.with_borrow(|open| call(open.current_span()))
}

/// Sets an attribute whose key is not known at compile time.
pub fn record_on_current(key: &str, value: Value<'_>) {
    with_current(|span| {
        if let Some(span) = span {
            span.set_attributes([Attribute { key, value }]);
        }
    });
}

/// Marks the current span as failed, or the request's server span if the handler has no span.
///
/// `kind` becomes the attribute `error.type`: a name of low cardinality, such as `card_declined`. `message` becomes the
/// description of the span status. A span whose `otel.status_code` is `OK` is not changed.
pub fn fail_span(kind: &str, message: &str) {
    OPEN.with_borrow_mut(|open| {
        let recording = open.recording();
        match open.current_mut() {
            Some(span) => span.fail(Some(kind), Some(message)),
            None if recording => host::set_request_error(kind, message),
            None => {}
        }
    });
}

/// The subscriber. Its state is in [`OPEN`].
///
/// Fields are always read before `OPEN` is borrowed, because the `Debug` of a value may use `tracing`.
struct HostSpans;

impl Subscriber for HostSpans {
    /// `sometimes`, because sampling differs between requests.
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
                let directives = fields.directives();
                let (name, kind) = directives.as_ref().map_or((None, None), |given| (given.name, given.kind));
                let name = name.unwrap_or(attributes.metadata().name());
                let span =
                    host::Span::start(name, kind.unwrap_or(SpanKind::Internal), parent, fields.span_attributes());
                let id = open.insert(span, attributes.metadata());
                if let (Some(directives), Some(span)) = (directives, open.open_mut(&id)) {
                    span.apply(&directives);
                }
                id
            })
        };
        Fields::collect(|fields| attributes.record(fields), start)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let send = |fields: &Fields| {
            OPEN.with_borrow_mut(|open| {
                let Some(span) = open.open_mut(span) else { return };
                let mut attributes = fields.span_attributes().peekable();
                if attributes.peek().is_some() {
                    span.host().set_attributes(attributes);
                }
                if let Some(directives) = fields.directives() {
                    directives.name.into_iter().for_each(|name| span.host().rename(name));
                    span.apply(&directives);
                }
            });
        };
        Fields::collect(|fields| values.record(fields), send);
    }

    /// The host does not support span links here.
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        Fields::collect(|fields| event.record(fields), |fields| send_event(event, fields));
    }

    fn enter(&self, span: &Id) {
        OPEN.with_borrow_mut(|open| open.enter(span));
    }

    fn exit(&self, span: &Id) {
        OPEN.with_borrow_mut(|open| open.exit(span));
    }

    fn clone_span(&self, span: &Id) -> Id {
        OPEN.with_borrow_mut(|open| open.add_handle(span));
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

/// Adds a span event and, from level INFO up, a log record.
fn send_event(event: &Event<'_>, fields: &Fields) {
    match (fields.message(), fields.text("error")) {
        (None, Some(error)) => send_error(event, fields, error),
        (message, _) => {
            let attributes: Vec<_> = fields.attributes().collect();
            send_plain(event, message.unwrap_or(event.metadata().name()), &attributes);
        }
    }
}

fn send_plain(event: &Event<'_>, name: &str, attributes: &[Attribute<'_>]) {
    OPEN.with_borrow(|open| {
        let span = open.span_of(event);
        if let Some(span) = span {
            span.add_event(name, attributes);
        }
        if is_logged(event.metadata()) {
            host::log(severity(event.metadata().level()), name, span, attributes);
        }
    });
}

/// An event that contains only an error becomes an exception and marks its span as failed. Such events come from
/// `#[instrument(err)]` and from `error!(error = %error)`. They are ignored for a problem that has already recorded its
/// exception.
fn send_error(event: &Event<'_>, fields: &Fields, error: &str) {
    OPEN.with_borrow_mut(|open| {
        if open.active_failure.as_ref().is_some_and(|active_failure| active_failure.has_recorded(error)) {
            return;
        }
        let attributes: Vec<_> = fields.attributes().map(exception::renamed).collect();
        let span = open.span_of(event);
        if let Some(span) = span {
            span.add_event(exception::EVENT, &attributes);
        }
        if is_logged(event.metadata()) {
            host::log(severity(event.metadata().level()), error, span, &attributes);
        }
        if let Some(span) = open.span_of_mut(event) {
            span.derive_failure(None, error);
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

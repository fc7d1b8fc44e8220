//! Exceptions: the span event `exception` of OpenTelemetry's semantic conventions, and a log record with the same
//! attributes.

use std::error::Error;

use super::open::{OPEN, OpenSpans};
use crate::host::{self, Attribute, Severity, Value};

/// The name of the event.
pub const EVENT: &str = "exception";
const MESSAGE: &str = "exception.message";
const TYPE: &str = "exception.type";
const STACKTRACE: &str = "exception.stacktrace";

/// An error to be recorded.
#[derive(Debug)]
pub struct Exception {
    kind: Option<&'static str>,
    message: String,
    /// The error and the chain of its sources, one per line; `None` if it has no source.
    causes: Option<String>,
}

impl Exception {
    /// An exception for an error of the type `E`, which `error`, as a trait object, does not identify.
    pub fn of<E>(error: &(dyn Error + 'static)) -> Self {
        Self { kind: type_name::<E>(), message: error.to_string(), causes: causes(error) }
    }

    /// The text of the error.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Records the exception in the log and on the current span, or on the request's server span if there is none.
    pub fn record(&self) {
        let attribute = |key, text| Attribute { key, value: Value::Text(text) };
        let mut attributes = vec![attribute(MESSAGE, self.message.as_str())];
        attributes.extend(self.kind.map(|kind| attribute(TYPE, kind)));
        attributes.extend(self.causes.as_deref().map(|causes| attribute(STACKTRACE, causes)));
        let recording = OPEN.with_borrow_mut(OpenSpans::recording);
        OPEN.with_borrow(|open| {
            let span = open.current_span();
            match span {
                Some(span) => span.add_event(EVENT, &attributes),
                None if recording => host::add_request_event(EVENT, &attributes),
                None => {}
            }
            host::log(Severity::Error, &self.message, span, &attributes);
        });
    }
}

/// Renames the field `error` of an event to `exception.message`.
pub fn renamed(attribute: Attribute<'_>) -> Attribute<'_> {
    let key = if attribute.key == "error" { MESSAGE } else { attribute.key };
    Attribute { key, ..attribute }
}

/// The name of the type `E`; `None` for strings and trait objects, which do not identify the error.
fn type_name<E>() -> Option<&'static str> {
    let name = std::any::type_name::<E>();
    let plain = ["&str", "alloc::string::String"].contains(&name) || name.contains("dyn core::error::Error");
    (!plain).then_some(name)
}

fn causes(error: &(dyn Error + 'static)) -> Option<String> {
    let mut source = error.source()?;
    let mut text = error.to_string();
    loop {
        text.push_str("\nCaused by: ");
        text.push_str(&source.to_string());
        match source.source() {
            Some(next) => source = next,
            None => return Some(text),
        }
    }
}

//! How a failed request marks its spans.
//!
//! A [`Failure`] lives inside a problem. As long as it does, each span that was open when it came about and ends now
//! is one that the problem travels out of, and has failed.

use super::OPEN;
use crate::host;

/// Marks the spans it leaves until it is dropped.
#[derive(Debug)]
pub struct Failure {
    number: u64,
}

/// What [`Failure`] leaves in the request's state while it lives.
#[derive(Debug)]
pub struct Failing {
    number: u64,
    /// The last span started before the failure; later ones have nothing to do with it.
    last_span: u64,
    kind: String,
    message: String,
}

impl Failure {
    /// A failure that answers with this status, and why.
    pub fn travelling(status: u16, message: &str) -> Self {
        OPEN.with_borrow_mut(|open| {
            open.failures += 1;
            let number = open.failures;
            open.failing = Some(Failing {
                number,
                last_span: open.started(),
                kind: status.to_string(),
                message: message.to_owned(),
            });
            Self { number }
        })
    }
}

impl Drop for Failure {
    fn drop(&mut self) {
        OPEN.with_borrow_mut(|open| {
            if open.failing.as_ref().is_some_and(|failing| failing.number == self.number) {
                open.failing = None;
            }
        });
    }
}

impl Failing {
    /// Marks a span that is ending, where it is one that the failure leaves.
    pub fn mark(&self, span: &host::Span, order: u64) {
        if order <= self.last_span {
            span.set_error(&self.kind, &self.message);
        }
    }
}

//! How a failed request marks its spans.
//!
//! A [`Failure`] lives inside a problem. While it lives, the problem is on its way out of the handler: each span that
//! was open when the problem was made, and that ends now, has failed.

use super::OPEN;
use super::exception::Exception;
use super::open::OpenSpan;

/// Marks the spans that end while it lives.
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
    /// Whether the span on which it came about has an exception event for it.
    recorded: bool,
}

impl Failure {
    /// A failure that is answered with this status, for a reason that is no error of the program.
    pub fn new(status: u16, message: &str) -> Self {
        Self::begin(status, message, false)
    }

    /// A failure that is answered with this status, because of an error, which is recorded.
    pub fn caused_by(status: u16, exception: &Exception) -> Self {
        exception.record();
        Self::begin(status, exception.message(), true)
    }

    fn begin(status: u16, message: &str, recorded: bool) -> Self {
        OPEN.with_borrow_mut(|open| {
            open.failures += 1;
            let number = open.failures;
            open.failing = Some(Failing {
                number,
                last_span: open.started(),
                kind: status.to_string(),
                message: message.to_owned(),
                recorded,
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
    pub fn mark(&self, span: &mut OpenSpan) {
        if span.order() <= self.last_span {
            span.derive_failure(Some(&self.kind), &self.message);
        }
    }

    /// Whether an error of this text is this failure, and has its exception event already.
    pub fn has_recorded(&self, error: &str) -> bool {
        self.recorded && error.ends_with(&self.message)
    }
}

//! Marks spans of a failed request.
//!
//! A [`Failure`] is part of a problem. As long as it exists, the problem is being returned from the handler: each span
//! that was open when the problem was created, and ends meanwhile, is marked as failed.

use super::active_failure::ActiveFailure;
use super::exception::Exception;
use super::open::OPEN;

/// Marks the spans that end while it exists.
#[derive(Debug)]
pub struct Failure {
    number: u64,
}

impl Failure {
    /// A failure with this status code, without an exception event.
    pub fn new(status: u16, message: &str) -> Self {
        Self::begin(status, message, false)
    }

    /// A failure with this status code that is caused by an error, which is recorded as an exception.
    pub fn caused_by(status: u16, exception: &Exception) -> Self {
        exception.record();
        Self::begin(status, exception.message(), true)
    }

    fn begin(status: u16, message: &str, recorded: bool) -> Self {
        OPEN.with_borrow_mut(|open| {
            open.failures += 1;
            let number = open.failures;
            open.active_failure = Some(ActiveFailure {
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
            if open.active_failure.as_ref().is_some_and(|active_failure| active_failure.number == self.number) {
                open.active_failure = None;
            }
        });
    }
}

//! How a failed request marks its spans.
//!
//! A [`Failure`] is part of a problem. As long as it exists, the problem is being returned from the handler: each span that
//! was open when the problem was created, and that ends meanwhile, is marked as failed.

use super::exception::Exception;
use super::failing::Failing;
use super::open::OPEN;

/// Marks the spans that end as long as it exists.
#[derive(Debug)]
pub struct Failure {
    number: u64,
}

impl Failure {
    /// A failure that is answered with this status, without an exception event.
    pub fn new(status: u16, message: &str) -> Self {
        Self::begin(status, message, false)
    }

    /// A failure that is answered with this status because of an error, which is recorded as an exception.
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

//! A failure on its way out of the handler, as the request's state holds it.

/// The entry of a [`Failure`](super::Failure).
#[derive(Debug)]
pub struct Failing {
    /// The number of the failure within the instance.
    pub number: u64,
    /// The last span started before the failure; later ones have nothing to do with it.
    pub last_span: u64,
    /// The value of `error.type`.
    pub kind: String,
    /// The description of the status.
    pub message: String,
    /// Whether an exception event was recorded for it.
    pub recorded: bool,
}

impl Failing {
    /// Whether the failure leaves the span that was started in this position.
    pub fn leaves(&self, order: u64) -> bool {
        order <= self.last_span
    }

    /// Whether an error of this text is this failure, and has its exception event already.
    pub fn has_recorded(&self, error: &str) -> bool {
        self.recorded && error.ends_with(&self.message)
    }
}

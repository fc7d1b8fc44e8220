//! The state of a failure that is being returned from the handler.

/// The state of a [`Failure`](super::Failure).
#[derive(Debug)]
pub struct ActiveFailure {
    /// The number of the failure within the instance.
    pub number: u64,
    /// The last span that was started before the failure. Later spans are not marked.
    pub last_span: u64,
    /// The value of `error.type`.
    pub kind: String,
    /// The description of the span status.
    pub message: String,
    /// Whether an exception event was recorded for it.
    pub recorded: bool,
}

impl ActiveFailure {
    /// Whether the failure marks the span with this start order.
    pub fn covers(&self, order: u64) -> bool {
        order <= self.last_span
    }

    /// Whether an error with this text is this failure and was recorded as an exception.
    pub fn has_recorded(&self, error: &str) -> bool {
        self.recorded && error.ends_with(&self.message)
    }
}

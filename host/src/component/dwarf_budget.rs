//! The budget for reading untrusted debug information: every step is charged to it, so that reading always ends.

/// The steps that may still be spent on reading. A step takes a few nanoseconds.
#[derive(Debug)]
pub(super) struct ReadBudget(pub u64);

/// The budget was spent before the locations were found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BudgetExhausted;

impl ReadBudget {
    pub fn spend(&mut self, steps: u64) -> Result<(), ReadError> {
        self.0 = self.0.checked_sub(steps).ok_or(ReadError::BudgetExhausted)?;
        Ok(())
    }
}

/// Why reading a unit ended early.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The unit is malformed. Other units may be valid.
    Malformed,
    /// The budget was spent.
    BudgetExhausted,
}

impl From<gimli::Error> for ReadError {
    fn from(_: gimli::Error) -> ReadError {
        ReadError::Malformed
    }
}

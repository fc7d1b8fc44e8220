//! A violation of a rule.

use std::fmt;

/// A violation of a rule: where, and what to do instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(super) path: String,
    /// Counted from 1; 0 refers to the whole file.
    pub(super) line: usize,
    pub(super) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.path, self.message),
            line => write!(out, "{}:{line}: {}", self.path, self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_the_format_of_compiler_messages() {
        let finding = Finding { path: "host/src/a.rs".into(), line: 3, message: "no".into() };
        assert_eq!(finding.to_string(), "host/src/a.rs:3: no");
        assert_eq!(Finding { line: 0, ..finding }.to_string(), "host/src/a.rs: no");
    }
}

//! Trace ids chosen by tests, so that they can identify their traces.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// A trace id in the 32 hexadecimal digits of W3C trace context.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(String);

impl TraceId {
    /// A trace id that no other test uses.
    pub fn fresh() -> TraceId {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let noise = RandomState::new().build_hasher().finish();
        TraceId(format!("{noise:016x}{:016x}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// A sampled `traceparent` of this trace, with the parent span `00f067aa0ba902b7`.
    pub fn traceparent(&self) -> String {
        format!("00-{}-00f067aa0ba902b7-01", self.0)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TraceId {
    fn from(digits: &str) -> TraceId {
        TraceId(digits.to_owned())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

//! The digest that identifies a component.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a component's bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Digest(Arc<str>);

impl Digest {
    /// Hashes a component.
    pub fn of(bytes: &[u8]) -> Digest {
        use std::fmt::Write;
        let mut text = String::from("sha256:");
        for byte in Sha256::digest(bytes) {
            let written = write!(text, "{byte:02x}");
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        }
        Digest(text.into())
    }

    /// Hashes a component on a blocking thread, because hashing a large one takes a while.
    pub async fn compute(bytes: &Arc<[u8]>) -> Digest {
        let shared = bytes.clone();
        let hashed = tokio::task::spawn_blocking(move || Digest::of(&shared)).await;
        hashed.unwrap_or_else(|_| Digest::of(bytes))
    }

    /// The complete digest, as in `sha256:0a1b...`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hexadecimal digits, which distinguish versions in a table.
    pub fn short(&self) -> &str {
        self.0.get(7..19).unwrap_or(&self.0)
    }

    /// The same text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

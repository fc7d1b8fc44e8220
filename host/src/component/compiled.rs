//! Compiled components by digest, for as long as somebody uses them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::contract::Kind;
use super::digest::Digest;
use super::guest::Linked;
use super::symbolizer::Symbolizer;

/// A component that was compiled and linked, and whose imports and exports fit the host. Never changed.
pub(super) struct Compiled {
    pub digest: Digest,
    pub size: usize,
    pub kind: Kind,
    pub linked: Linked,
    pub symbolizer: Arc<Symbolizer>,
    pub imports: Vec<String>,
}

/// The place of one component. Whoever compiles it holds the lock meanwhile.
type Slot = Arc<tokio::sync::Mutex<Weak<Compiled>>>;

/// The components that are compiled or being compiled. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct CompiledComponents(Arc<Mutex<HashMap<Digest, Slot>>>);

impl CompiledComponents {
    /// The place of the component with this digest.
    pub fn slot(&self, digest: &Digest) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| is_in_use(slot));
        slots.entry(digest.clone()).or_default().clone()
    }
}

fn is_in_use(slot: &Slot) -> bool {
    // One that is locked is being compiled.
    Arc::strong_count(slot) > 1 || slot.try_lock().map_or(true, |compiled| compiled.strong_count() > 0)
}

//! Compiled components by digest, as long as they are in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::capacity::Capacity;
use super::contract::Kind;
use super::digest::Digest;
use super::guest::Linked;
use super::symbolizer::Symbolizer;

/// A compiled and linked component whose imports and exports fit the host. Immutable.
pub(super) struct Compiled {
    pub digest: Digest,
    pub size: usize,
    pub kind: Kind,
    pub linked: Linked,
    pub capacity: Capacity,
    pub symbolizer: Arc<Symbolizer>,
    pub imports: Vec<String>,
}

/// The entry of one component. It is locked while the component compiles.
type CompileEntry = Arc<tokio::sync::Mutex<Weak<Compiled>>>;

/// The components that are compiled or compiling. Clones are handles to the same map.
#[derive(Clone, Default)]
pub(super) struct CompiledComponents(Arc<Mutex<HashMap<Digest, CompileEntry>>>);

impl CompiledComponents {
    /// The entry of the component with this digest.
    pub fn entry(&self, digest: &Digest) -> CompileEntry {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| is_in_use(entry));
        entries.entry(digest.clone()).or_default().clone()
    }
}

fn is_in_use(entry: &CompileEntry) -> bool {
    // A locked entry is compiling.
    Arc::strong_count(entry) > 1 || entry.try_lock().map_or(true, |compiled| compiled.strong_count() > 0)
}

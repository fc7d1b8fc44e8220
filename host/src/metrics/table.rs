//! A bounded, read-optimised map from the labels of a series to its instruments.
//!
//! A lookup takes no lock and does not allocate. A new series copies the map, which happens a few times per route in
//! the lifetime of a host. Once `limit` series exist, further ones share the key's overflow series.

use std::{
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use foldhash::HashMap;

/// Series by their labels. The number of keys is bounded, so a fast hash without collision resistance suffices.
pub(super) type SeriesMap<K, V> = HashMap<K, V>;

/// The labels of a series, borrowed from a request. `Stored` is the same type, owned.
pub(super) trait SeriesKey: Hash + Eq {
    type Stored: Hash + Eq + Clone;

    /// Looks up this key. (The maps' keys are covariant in their lifetime, which generic code cannot express.)
    fn find<'m, V>(&'m self, series: &'m SeriesMap<Self::Stored, V>) -> Option<&'m V>;
    /// An owned copy.
    fn to_stored(&self) -> Self::Stored;
    /// The key of the overflow series. There are only a few, and they are cheap to make.
    fn overflow(&self) -> Self::Stored;
}

pub(super) struct Table<K, V> {
    series: ArcSwap<SeriesMap<K, Arc<V>>>,
    growth_lock: Mutex<()>,
    limit: usize,
}

impl<K: Hash + Eq + Clone, V> Table<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Table { series: ArcSwap::default(), growth_lock: Mutex::new(()), limit }
    }

    /// Calls `record` with the series of `key`, which `make` creates on first use.
    pub(super) fn with<Q>(&self, key: &Q, make: impl FnOnce(&K) -> V, record: impl FnOnce(&V))
    where
        Q: SeriesKey<Stored = K>,
    {
        {
            let series = self.series.load();
            if let Some(found) = key.find(&series) {
                return record(found);
            }
            if series.len() >= self.limit
                && let Some(overflow) = series.get(&key.overflow())
            {
                return record(overflow);
            }
        }
        record(&self.grow(key, make));
    }

    /// All series with their labels.
    pub(super) fn all(&self) -> Vec<(K, Arc<V>)> {
        let series = self.series.load();
        series.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
    }

    fn grow<Q>(&self, key: &Q, make: impl FnOnce(&K) -> V) -> Arc<V>
    where
        Q: SeriesKey<Stored = K>,
    {
        let _one_at_a_time = self.growth_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let series = self.series.load_full();
        let key = if series.len() < self.limit { key.to_stored() } else { key.overflow() };
        if let Some(found) = series.get(&key) {
            return Arc::clone(found);
        }
        let value = Arc::new(make(&key));
        let mut grown = SeriesMap::clone(&series);
        grown.insert(key, Arc::clone(&value));
        self.series.store(Arc::new(grown));
        value
    }
}

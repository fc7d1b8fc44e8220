//! The store that lives in the process: a sorted map behind one lock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BucketId, KeyPage, PAGE, StateError};

type Buckets = BTreeMap<BucketId, BTreeMap<String, Vec<u8>>>;

/// Key-value pairs in memory. No operation holds the lock across a wait.
#[derive(Default)]
pub struct MemoryStore {
    buckets: Mutex<Buckets>,
}

impl MemoryStore {
    pub(super) fn get(&self, bucket: &BucketId, key: &str) -> Option<Vec<u8>> {
        self.lock().get(bucket)?.get(key).cloned()
    }

    pub(super) fn keys(&self, bucket: &BucketId, cursor: Option<&str>) -> KeyPage {
        let buckets = self.lock();
        let keys = buckets.get(bucket).into_iter().flat_map(BTreeMap::keys);
        let mut keys: Vec<_> =
            keys.filter(|key| cursor.is_none_or(|cursor| key.as_str() > cursor)).take(PAGE + 1).cloned().collect();
        let more = keys.len() > PAGE;
        keys.truncate(PAGE);
        KeyPage { cursor: keys.last().filter(|_| more).cloned(), keys }
    }

    pub(super) fn update<T>(
        &self,
        bucket: &BucketId,
        key: &str,
        change: impl FnOnce(Option<&[u8]>) -> Result<(Option<Vec<u8>>, T), StateError>,
    ) -> Result<T, StateError> {
        let mut buckets = self.lock();
        let values = buckets.entry(bucket.clone()).or_default();
        let (value, answer) = change(values.get(key).map(Vec::as_slice))?;
        match value {
            Some(value) => values.insert(key.to_owned(), value),
            None => values.remove(key),
        };
        Ok(answer)
    }

    /// A change that panicked left the map as it was, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

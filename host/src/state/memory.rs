//! The in-memory store: a sorted map behind one lock. Each service has a quota.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::{BucketId, KeyPage, PAGE_SIZE, PAIR_OVERHEAD};
use super::error::StateError;

#[derive(Default)]
struct Buckets {
    pairs: BTreeMap<BucketId, BTreeMap<String, Vec<u8>>>,
    /// The bytes that each service uses.
    used: BTreeMap<Arc<str>, usize>,
}

/// Key-value pairs in memory. No operation holds the lock across an await.
pub struct MemoryStore {
    buckets: Mutex<Buckets>,
    /// The quota of one service in bytes.
    quota: usize,
}

impl MemoryStore {
    pub(super) fn new(quota: usize) -> MemoryStore {
        MemoryStore { buckets: Mutex::default(), quota }
    }

    pub(super) fn get(&self, bucket: &BucketId, key: &str) -> Option<Vec<u8>> {
        self.lock().pairs.get(bucket)?.get(key).cloned()
    }

    pub(super) fn exists(&self, bucket: &BucketId, key: &str) -> bool {
        self.lock().pairs.get(bucket).is_some_and(|pairs| pairs.contains_key(key))
    }

    pub(super) fn keys(&self, bucket: &BucketId, cursor: Option<&str>) -> KeyPage {
        let buckets = self.lock();
        let after: (Bound<&str>, Bound<&str>) = (cursor.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let pairs = buckets.pairs.get(bucket).into_iter().flat_map(|pairs| pairs.range::<str, _>(after));
        let mut keys: Vec<_> = pairs.take(PAGE_SIZE + 1).map(|(key, _)| key.clone()).collect();
        let more = keys.len() > PAGE_SIZE;
        keys.truncate(PAGE_SIZE);
        KeyPage { cursor: keys.last().filter(|_| more).cloned(), keys }
    }

    pub(super) fn update<T>(
        &self,
        bucket: &BucketId,
        key: &str,
        change: impl FnOnce(Option<&[u8]>) -> Result<(Option<Vec<u8>>, T), StateError>,
    ) -> Result<T, StateError> {
        let mut buckets = self.lock();
        let present = buckets.pairs.get(bucket).and_then(|pairs| pairs.get(key));
        let (value, answer) = change(present.map(Vec::as_slice))?;
        buckets.put(bucket, key, value, self.quota)?;
        Ok(answer)
    }

    /// The number of buckets.
    #[cfg(test)]
    fn buckets(&self) -> usize {
        self.lock().pairs.len()
    }

    /// A change that panics leaves the map unchanged, so a poisoned lock is ignored.
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    /// Sets or removes the value of a key. A bucket exists as long as it has a key.
    fn put(&mut self, bucket: &BucketId, key: &str, value: Option<Vec<u8>>, quota: usize) -> Result<(), StateError> {
        let pairs = self.pairs.get(bucket);
        let size = |value: &Vec<u8>| key.len() + value.len() + PAIR_OVERHEAD;
        let bucket_size = bucket.bucket.len() + PAIR_OVERHEAD;
        let before = pairs.and_then(|pairs| pairs.get(key)).map_or(0, size);
        let after = value.as_ref().map_or(0, size);
        let new_bucket = if pairs.is_none() && value.is_some() { bucket_size } else { 0 };
        let used = self.used.get(&bucket.service).copied().unwrap_or(0);
        let total = used + after + new_bucket - before.min(used);
        if total > quota && total > used {
            return Err(StateError::QuotaExceeded(quota));
        }
        let (mut total, is_empty) = match value {
            Some(value) => {
                self.pairs.entry(bucket.clone()).or_default().insert(key.to_owned(), value);
                (total, false)
            }
            None => {
                let pairs = self.pairs.get_mut(bucket);
                let pairs = pairs.map(|pairs| (pairs.remove(key), pairs.is_empty()));
                (total, pairs.is_some_and(|(_, is_empty)| is_empty))
            }
        };
        if is_empty {
            self.pairs.remove(bucket);
            total = total.saturating_sub(bucket_size);
        }
        match total {
            0 => drop(self.used.remove(&bucket.service)),
            total => drop(self.used.insert(bucket.service.clone(), total)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::DEFAULT_QUOTA;

    fn bucket(name: &str) -> BucketId {
        BucketId { service: "a".into(), bucket: name.into() }
    }

    fn put(store: &MemoryStore, bucket: &BucketId, key: &str, value: Option<usize>) -> Result<(), StateError> {
        store.update(bucket, key, |_| Ok((value.map(|size| vec![0; size]), ())))
    }

    #[test]
    fn a_bucket_exists_as_long_as_it_has_a_key() {
        let store = MemoryStore::new(DEFAULT_QUOTA);
        for number in 0..100 {
            put(&store, &bucket(&number.to_string()), "k", None).unwrap();
            assert_eq!(store.get(&bucket(&number.to_string()), "k"), None);
        }
        assert_eq!(store.buckets(), 0, "deleting from an empty bucket does not create it");
        let refused = store.update(&bucket("b"), "k", |_| Err::<(_, ()), _>(StateError::NotANumber("k".to_owned())));
        assert!(refused.is_err() && store.buckets() == 0);
        put(&store, &bucket("b"), "k", Some(1)).unwrap();
        put(&store, &bucket("b"), "other", None).unwrap();
        assert_eq!(store.buckets(), 1);
        put(&store, &bucket("b"), "k", None).unwrap();
        assert_eq!(store.buckets(), 0);
        assert!(store.lock().used.is_empty());
    }

    #[test]
    fn the_quota_of_a_service_does_not_affect_other_services() {
        let store = MemoryStore::new(DEFAULT_QUOTA);
        let large = DEFAULT_QUOTA / 4 - 1024;
        for number in 0..4 {
            put(&store, &bucket("b"), &number.to_string(), Some(large)).unwrap();
        }
        assert!(matches!(put(&store, &bucket("b"), "5", Some(large)), Err(StateError::QuotaExceeded(_))));
        assert_eq!(store.get(&bucket("b"), "5"), None);
        let other = BucketId { service: "other".into(), bucket: "b".into() };
        put(&store, &other, "k", Some(large)).unwrap();
        put(&store, &bucket("b"), "0", Some(1)).unwrap();
        put(&store, &bucket("c"), "5", Some(large)).unwrap();
    }

    #[test]
    fn names_of_buckets_count_towards_the_quota() {
        let store = MemoryStore::new(DEFAULT_QUOTA);
        for number in 0.. {
            match put(&store, &bucket(&format!("{number:0>250}")), "k", Some(0)) {
                Ok(()) => {}
                Err(StateError::QuotaExceeded(_)) => return assert!(number > 100_000, "{number}"),
                Err(error) => panic!("{error}"),
            }
            assert!(number < 1_000_000, "the number of buckets is unbounded");
        }
    }
}

//! The store that lives in the process: a sorted map behind one lock. What a service keeps in it is bounded.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::{BucketId, KeyPage, OVERHEAD, PAGE};
use super::error::StateError;

#[derive(Default)]
struct Buckets {
    pairs: BTreeMap<BucketId, BTreeMap<String, Vec<u8>>>,
    /// Bytes that each service keeps.
    taken: BTreeMap<Arc<str>, usize>,
}

/// Key-value pairs in memory. No operation holds the lock across a wait.
pub struct MemoryStore {
    buckets: Mutex<Buckets>,
    /// The most that one service keeps, in bytes.
    room: usize,
}

impl MemoryStore {
    pub(super) fn new(room: usize) -> MemoryStore {
        MemoryStore { buckets: Mutex::default(), room }
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
        let mut keys: Vec<_> = pairs.take(PAGE + 1).map(|(key, _)| key.clone()).collect();
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
        let present = buckets.pairs.get(bucket).and_then(|pairs| pairs.get(key));
        let (value, answer) = change(present.map(Vec::as_slice))?;
        buckets.put(bucket, key, value, self.room)?;
        Ok(answer)
    }

    /// How many buckets there are.
    #[cfg(test)]
    fn buckets(&self) -> usize {
        self.lock().pairs.len()
    }

    /// A change that panicked left the map as it was, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    /// Puts a value at a key, or takes it away. A bucket is there for as long as it holds something.
    fn put(&mut self, bucket: &BucketId, key: &str, value: Option<Vec<u8>>, room: usize) -> Result<(), StateError> {
        let pairs = self.pairs.get(bucket);
        let size = |value: &Vec<u8>| key.len() + value.len() + OVERHEAD;
        let of_bucket = bucket.bucket.len() + OVERHEAD;
        let before = pairs.and_then(|pairs| pairs.get(key)).map_or(0, size);
        let after = value.as_ref().map_or(0, size);
        let appears = if pairs.is_none() && value.is_some() { of_bucket } else { 0 };
        let taken = self.taken.get(&bucket.service).copied().unwrap_or(0);
        let total = taken + after + appears - before.min(taken);
        if total > room && total > taken {
            return Err(StateError::Full(room));
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
            total = total.saturating_sub(of_bucket);
        }
        match total {
            0 => drop(self.taken.remove(&bucket.service)),
            total => drop(self.taken.insert(bucket.service.clone(), total)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ROOM;

    fn bucket(name: &str) -> BucketId {
        BucketId { service: "a".into(), bucket: name.into() }
    }

    fn put(store: &MemoryStore, bucket: &BucketId, key: &str, value: Option<usize>) -> Result<(), StateError> {
        store.update(bucket, key, |_| Ok((value.map(|size| vec![0; size]), ())))
    }

    #[test]
    fn a_bucket_is_there_for_as_long_as_it_holds_something() {
        let store = MemoryStore::new(ROOM);
        for number in 0..100 {
            put(&store, &bucket(&number.to_string()), "k", None).unwrap();
            assert_eq!(store.get(&bucket(&number.to_string()), "k"), None);
        }
        assert_eq!(store.buckets(), 0, "what is deleted need not have been there");
        let refused = store.update(&bucket("b"), "k", |_| Err::<(_, ()), _>(StateError::NotANumber("k".to_owned())));
        assert!(refused.is_err() && store.buckets() == 0);
        put(&store, &bucket("b"), "k", Some(1)).unwrap();
        put(&store, &bucket("b"), "other", None).unwrap();
        assert_eq!(store.buckets(), 1);
        put(&store, &bucket("b"), "k", None).unwrap();
        assert_eq!(store.buckets(), 0);
        assert!(store.lock().taken.is_empty());
    }

    #[test]
    fn a_service_keeps_no_more_than_its_room_and_takes_none_from_others() {
        let store = MemoryStore::new(ROOM);
        let large = ROOM / 4 - 1024;
        for number in 0..4 {
            put(&store, &bucket("b"), &number.to_string(), Some(large)).unwrap();
        }
        assert!(matches!(put(&store, &bucket("b"), "5", Some(large)), Err(StateError::Full(_))));
        assert_eq!(store.get(&bucket("b"), "5"), None);
        let other = BucketId { service: "other".into(), bucket: "b".into() };
        put(&store, &other, "k", Some(large)).unwrap();
        put(&store, &bucket("b"), "0", Some(1)).unwrap();
        put(&store, &bucket("c"), "5", Some(large)).unwrap();
    }

    #[test]
    fn names_count_too() {
        let store = MemoryStore::new(ROOM);
        for number in 0.. {
            match put(&store, &bucket(&format!("{number:0>250}")), "k", Some(0)) {
                Ok(()) => {}
                Err(StateError::Full(_)) => return assert!(number > 100_000, "{number}"),
                Err(error) => panic!("{error}"),
            }
            assert!(number < 1_000_000, "buckets without end");
        }
    }
}

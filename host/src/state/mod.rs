//! The state store: persistent data of services, behind `wasi:keyvalue`.
//!
//! The store belongs to the host and not to a component version, so its contents outlive swaps and traps. Each service
//! sees only its own buckets. Every operation is atomic; concurrent requests coordinate through `compare_and_swap` and
//! `increment`. The `redb` backend commits to disk before an operation returns.

mod bucket;
mod error;
mod memory;
mod redb;
mod redb_tables;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::bucket::{BucketId, CasOutcome, KeyPage, MAX_BUCKET, MAX_KEY, MAX_VALUE, PAGE_SIZE};
pub use self::error::StateError;
pub use self::memory::MemoryStore;
pub use self::redb::RedbStore;

/// The default quota of one service in bytes.
pub const DEFAULT_QUOTA: usize = 256 << 20;

/// The store of a host, shared by all its services.
#[derive(Clone)]
pub enum StateStore {
    /// In memory; lost when the host ends.
    Memory(Arc<MemoryStore>),
    /// In a file.
    Redb(Arc<RedbStore>),
}

impl StateStore {
    /// A store in memory. Each service may use `quota` bytes.
    pub fn memory(quota: usize) -> StateStore {
        StateStore::Memory(Arc::new(MemoryStore::new(quota)))
    }

    /// Opens or creates the file at `path` and its folder. Each service may use `quota` bytes.
    pub fn redb(path: PathBuf, quota: usize) -> Result<StateStore, StateError> {
        RedbStore::open(path, quota).map(|store| StateStore::Redb(Arc::new(store)))
    }

    /// The value at `key`.
    pub async fn get(&self, bucket: &BucketId, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        check_key(key)?;
        match self {
            StateStore::Memory(store) => Ok(store.get(bucket, key)),
            StateStore::Redb(store) => store.get(bucket, key).await,
        }
    }

    /// Whether there is a value at `key`.
    pub async fn exists(&self, bucket: &BucketId, key: &str) -> Result<bool, StateError> {
        check_key(key)?;
        match self {
            StateStore::Memory(store) => Ok(store.exists(bucket, key)),
            StateStore::Redb(store) => store.exists(bucket, key).await,
        }
    }

    /// Stores `value` at `key`.
    pub async fn set(&self, bucket: &BucketId, key: &str, value: Vec<u8>) -> Result<(), StateError> {
        check_sizes(key, &value)?;
        self.update(bucket, key, move |_| Ok((Some(value), ()))).await
    }

    /// Deletes `key`.
    pub async fn delete(&self, bucket: &BucketId, key: &str) -> Result<(), StateError> {
        check_key(key)?;
        self.update(bucket, key, |_| Ok((None, ()))).await
    }

    /// The keys after `cursor`, at most [`PAGE_SIZE`] of them.
    pub async fn keys(&self, bucket: &BucketId, cursor: Option<&str>) -> Result<KeyPage, StateError> {
        match self {
            StateStore::Memory(store) => Ok(store.keys(bucket, cursor)),
            StateStore::Redb(store) => store.keys(bucket, cursor).await,
        }
    }

    /// Stores `value` at `key` if its value is still `expected`.
    pub async fn compare_and_swap(
        &self,
        bucket: &BucketId,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<CasOutcome, StateError> {
        check_sizes(key, &value)?;
        self.update(bucket, key, move |current| match current {
            now if now == expected.as_deref() => Ok((Some(value), CasOutcome::Stored)),
            now => Ok((now.map(<[u8]>::to_vec), CasOutcome::Conflict(now.map(<[u8]>::to_vec)))),
        })
        .await
    }

    /// Adds `delta` to the decimal number at `key`, or to 0 if there is none, and returns the sum.
    pub async fn increment(&self, bucket: &BucketId, key: &str, delta: i64) -> Result<i64, StateError> {
        self.add(bucket, key, delta).await
    }

    /// The same for callers with unsigned numbers. A negative sum is an error.
    pub async fn increment_unsigned(&self, bucket: &BucketId, key: &str, delta: u64) -> Result<u64, StateError> {
        self.add(bucket, key, delta).await
    }

    /// Adds in 128 bits, because a caller with numbers of the other signedness may have stored the number. If the sum
    /// does not fit `N`, the number remains.
    async fn add<N>(&self, bucket: &BucketId, key: &str, delta: N) -> Result<N, StateError>
    where
        N: Into<i128> + TryFrom<i128> + Send + 'static,
    {
        check_key(key)?;
        let name = key.to_owned();
        self.update(bucket, key, move |current| {
            let number = current.map_or(Some(0), |bytes| std::str::from_utf8(bytes).ok()?.parse::<i128>().ok());
            let sum = number.and_then(|number| number.checked_add(delta.into()));
            let fitting = sum.and_then(|sum| Some((sum, N::try_from(sum).ok()?)));
            let (sum, answer) = fitting.ok_or(StateError::NotANumber(name))?;
            Ok((Some(sum.to_string().into_bytes()), answer))
        })
        .await
    }

    /// Replaces the value at `key` by the result of `change`, atomically.
    async fn update<T: Send + 'static>(
        &self,
        bucket: &BucketId,
        key: &str,
        change: impl FnOnce(Option<&[u8]>) -> Result<(Option<Vec<u8>>, T), StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        match self {
            StateStore::Memory(store) => store.update(bucket, key, change),
            StateStore::Redb(store) => store.update(bucket, key, change).await,
        }
    }

    /// Whether operations can succeed: false after a failure of the disk, until the file was reopened.
    pub fn is_healthy(&self) -> bool {
        match self {
            StateStore::Memory(_) => true,
            StateStore::Redb(store) => store.is_healthy(),
        }
    }

    /// The number of disk failures since the start.
    pub fn failures(&self) -> u64 {
        match self {
            StateStore::Memory(_) => 0,
            StateStore::Redb(store) => store.failures(),
        }
    }
}

fn check_sizes(key: &str, value: &[u8]) -> Result<(), StateError> {
    check_key(key)?;
    check_size("a value", value.len(), MAX_VALUE)
}

fn check_key(key: &str) -> Result<(), StateError> {
    check_size("a key", key.len(), MAX_KEY)
}

fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), StateError> {
    if size > limit { Err(StateError::TooLarge { what, size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(service: &str) -> BucketId {
        BucketId { service: service.into(), bucket: "default".into() }
    }

    async fn check_store(store: StateStore) {
        let (a, b) = (bucket("a"), bucket("b"));
        store.set(&a, "k", b"1".to_vec()).await.unwrap();
        assert_eq!(store.get(&a, "k").await.unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(store.get(&b, "k").await.unwrap(), None, "another service does not see it");
        assert!(store.exists(&a, "k").await.unwrap() && !store.exists(&b, "k").await.unwrap());

        assert_eq!(store.increment(&a, "k", 41).await.unwrap(), 42);
        assert_eq!(store.increment(&a, "new", -2).await.unwrap(), -2);
        store.set(&a, "text", b"x".to_vec()).await.unwrap();
        assert!(matches!(store.increment(&a, "text", 1).await, Err(StateError::NotANumber(_))));
        assert_eq!(store.get(&a, "text").await.unwrap().as_deref(), Some(&b"x"[..]));

        let lost = store.compare_and_swap(&a, "k", Some(b"1".to_vec()), b"2".to_vec()).await.unwrap();
        assert_eq!(lost, CasOutcome::Conflict(Some(b"42".to_vec())));
        let stored = store.compare_and_swap(&a, "k", Some(b"42".to_vec()), b"2".to_vec()).await.unwrap();
        assert_eq!(stored, CasOutcome::Stored);
        assert_eq!(store.compare_and_swap(&a, "n", None, b"9".to_vec()).await.unwrap(), CasOutcome::Stored);

        let page = store.keys(&a, None).await.unwrap();
        assert_eq!(page, KeyPage { keys: ["k", "n", "new", "text"].map(str::to_owned).into(), cursor: None });
        assert_eq!(store.keys(&a, Some("n")).await.unwrap().keys, ["new", "text"]);
        store.delete(&a, "k").await.unwrap();
        assert_eq!(store.get(&a, "k").await.unwrap(), None);
        let long = "k".repeat(MAX_KEY + 1);
        let too_large = |failed: Option<StateError>| assert!(matches!(failed, Some(StateError::TooLarge { .. })));
        too_large(store.set(&a, &long, vec![]).await.err());
        too_large(store.set(&a, "k", vec![0; MAX_VALUE + 1]).await.err());
        too_large(store.get(&a, &long).await.err());
        too_large(store.exists(&a, &long).await.err());
        too_large(store.delete(&a, &long).await.err());
        too_large(store.increment(&a, &long, 1).await.err());
        too_large(store.compare_and_swap(&a, &long, None, vec![]).await.err());
        assert!(store.is_healthy());
    }

    #[tokio::test]
    async fn the_memory_store_implements_all_operations() {
        check_store(StateStore::memory(DEFAULT_QUOTA)).await;
    }

    #[tokio::test]
    async fn the_redb_store_implements_all_operations_and_is_durable() {
        let folder = std::env::temp_dir().join(format!("spandrel-state-{}", std::process::id()));
        let path = folder.join("state.redb");
        check_store(StateStore::redb(path.clone(), DEFAULT_QUOTA).unwrap()).await;
        let reopened = StateStore::redb(path, DEFAULT_QUOTA).unwrap();
        assert_eq!(reopened.get(&bucket("a"), "n").await.unwrap().as_deref(), Some(&b"9"[..]));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn increments_have_the_whole_range_of_their_type_and_never_wrap() {
        let (store, a) = (StateStore::memory(DEFAULT_QUOTA), bucket("a"));
        assert_eq!(store.increment_unsigned(&a, "n", u64::MAX - 1).await.unwrap(), u64::MAX - 1);
        assert_eq!(store.increment_unsigned(&a, "n", 1).await.unwrap(), u64::MAX);
        assert!(matches!(store.increment_unsigned(&a, "n", 1).await, Err(StateError::NotANumber(_))));
        assert!(matches!(store.increment(&a, "n", -1).await, Err(StateError::NotANumber(_))), "it exceeds an i64");
        assert_eq!(store.get(&a, "n").await.unwrap(), Some(u64::MAX.to_string().into_bytes()));
        assert_eq!(store.increment(&a, "n", i64::MIN).await.unwrap(), i64::MAX);
        assert!(matches!(store.increment(&a, "n", 1).await, Err(StateError::NotANumber(_))));
        store.increment(&a, "negative", -2).await.unwrap();
        assert!(matches!(store.increment_unsigned(&a, "negative", 1).await, Err(StateError::NotANumber(_))));
        assert_eq!(store.get(&a, "negative").await.unwrap().as_deref(), Some(&b"-2"[..]), "it was not changed");
        assert_eq!(store.increment_unsigned(&a, "negative", 3).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn concurrent_increments_are_never_lost() {
        let store = StateStore::memory(DEFAULT_QUOTA);
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.increment(&bucket("a"), "n", 1).await.unwrap() })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(store.increment(&bucket("a"), "n", 0).await.unwrap(), 64);
    }
}

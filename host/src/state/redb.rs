//! The store in a file: a redb database with one table of pairs. Every change is committed before it returns. Each
//! service has a quota.
//!
//! After a failure of the disk, redb fails every operation until the file is reopened. A thread reopens it, with
//! increasing delays between attempts; meanwhile the store is unhealthy. All disk access runs on blocking threads.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable};
use tokio::sync::Semaphore;

use super::bucket::{BucketId, KeyPage, PAGE_SIZE};
use super::error::StateError;
use super::redb_tables::{PAIRS, count_existing, size_of, update_size};

/// The first and the longest delay before the file is reopened.
const REOPEN_DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// The most concurrent operations.
const MAX_CONCURRENT: usize = 64;
/// The size of redb's page cache in bytes.
const CACHE_SIZE: usize = 64 << 20;

type Open = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

/// Key-value pairs in a file, which only one host can open.
pub struct RedbStore {
    /// `None` after a failure of the disk, until the file was reopened.
    database: RwLock<Option<Database>>,
    open: Box<Open>,
    /// Limits concurrent operations, so that a hanging disk does not block all of Tokio's blocking threads.
    running: Arc<Semaphore>,
    failures: AtomicU64,
    /// The quota of one service in bytes.
    quota: usize,
}

impl RedbStore {
    pub(super) fn open(path: PathBuf, quota: usize) -> Result<RedbStore, StateError> {
        let fail = |reason: String| StateError::Open { path: path.clone(), reason };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fail(error.to_string()))?;
        }
        let file = path.clone();
        RedbStore::open_with(Box::new(move || Database::builder().set_cache_size(CACHE_SIZE).create(&file)), quota)
            .map_err(fail)
    }

    fn open_with(open: Box<Open>, quota: usize) -> Result<RedbStore, String> {
        let database = open().map_err(|error| error.to_string())?;
        create_tables(&database).map_err(|error| error.to_string())?;
        let running = Arc::new(Semaphore::new(MAX_CONCURRENT));
        Ok(RedbStore { database: RwLock::new(Some(database)), open, running, failures: AtomicU64::new(0), quota })
    }

    pub(super) fn is_healthy(&self) -> bool {
        // The lock is held while the file is reopened.
        self.database.try_read().is_ok_and(|database| database.is_some())
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) async fn get(self: &Arc<Self>, bucket: &BucketId, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        let (bucket, key) = (bucket.clone(), key.to_owned());
        self.run(move |database| {
            let table = database.begin_read().map_err(disk_failure)?.open_table(PAIRS).map_err(disk_failure)?;
            let value = table.get((&*bucket.service, &*bucket.bucket, key.as_str())).map_err(disk_failure)?;
            Ok(value.map(|value| value.value().to_vec()))
        })
        .await
    }

    /// Checks the key without copying the value.
    pub(super) async fn exists(self: &Arc<Self>, bucket: &BucketId, key: &str) -> Result<bool, StateError> {
        let (bucket, key) = (bucket.clone(), key.to_owned());
        self.run(move |database| {
            let table = database.begin_read().map_err(disk_failure)?.open_table(PAIRS).map_err(disk_failure)?;
            let value = table.get((&*bucket.service, &*bucket.bucket, key.as_str())).map_err(disk_failure)?;
            Ok(value.is_some())
        })
        .await
    }

    pub(super) async fn keys(self: &Arc<Self>, bucket: &BucketId, cursor: Option<&str>) -> Result<KeyPage, StateError> {
        let (bucket, cursor) = (bucket.clone(), cursor.map(str::to_owned));
        self.run(move |database| {
            let mut keys = list(database, &bucket, cursor.as_deref()).map_err(disk_failure)?;
            let more = keys.len() > PAGE_SIZE;
            keys.truncate(PAGE_SIZE);
            Ok(KeyPage { cursor: keys.last().filter(|_| more).cloned(), keys })
        })
        .await
    }

    /// Returns when the change is on disk. It is atomic because redb runs one write transaction at a time.
    pub(super) async fn update<T: Send + 'static>(
        self: &Arc<Self>,
        bucket: &BucketId,
        key: &str,
        change: impl FnOnce(Option<&[u8]>) -> Result<(Option<Vec<u8>>, T), StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let (bucket, key, quota) = (bucket.clone(), key.to_owned(), self.quota);
        self.run(move |database| {
            let write = database.begin_write().map_err(disk_failure)?;
            let answer = {
                let mut table = write.open_table(PAIRS).map_err(disk_failure)?;
                let at = (&*bucket.service, &*bucket.bucket, key.as_str());
                let current = table.get(at).map_err(disk_failure)?.map(|value| value.value().to_vec());
                let (value, answer) = change(current.as_deref()).map_err(OperationError::Refused)?;
                if value == current {
                    return Ok(answer);
                }
                let size =
                    |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| size_of(&bucket, &key, value.len()));
                let change = (size(&current), size(&value));
                if !update_size(&write, &bucket.service, change, quota as u64).map_err(disk_failure)? {
                    return Err(OperationError::Refused(StateError::QuotaExceeded(quota)));
                }
                match value {
                    Some(value) => drop(table.insert(at, value.as_slice()).map_err(disk_failure)?),
                    None => drop(table.remove(at).map_err(disk_failure)?),
                }
                answer
            };
            write.commit().map_err(disk_failure)?;
            Ok(answer)
        })
        .await
    }

    /// Runs an operation on a blocking thread.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl FnOnce(&Database) -> Result<T, OperationError> + Send + 'static,
    ) -> Result<T, StateError> {
        let permit = self.running.clone().acquire_owned().await;
        let store = self.clone();
        let run = move || {
            let _permit = permit;
            store.run_blocking(operation)
        };
        let ran = tokio::task::spawn_blocking(run).await;
        ran.unwrap_or_else(|panicked| Err(StateError::Backend(panicked.to_string())))
    }

    fn run_blocking<T>(
        self: &Arc<Self>,
        operation: impl FnOnce(&Database) -> Result<T, OperationError>,
    ) -> Result<T, StateError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = database.as_ref() else {
            return Err(StateError::Backend("the disk failed; the state file is being reopened".to_owned()));
        };
        match operation(open) {
            Ok(answer) => Ok(answer),
            Err(OperationError::Refused(error)) => Err(error),
            Err(OperationError::Disk(error)) => {
                drop(database);
                self.close_after(&error);
                Err(StateError::Backend(error.to_string()))
            }
        }
    }

    /// Closes the failed file and starts to reopen it, unless another operation did so.
    fn close_after(self: &Arc<Self>, error: &redb::Error) {
        let closed = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if closed.is_none() {
            return;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "the state file failed and is being reopened");
        drop(closed);
        let store = self.clone();
        let started = std::thread::Builder::new().name("state file".to_owned()).spawn(move || store.reopen());
        if let Err(error) = started {
            tracing::error!(%error, "cannot start the thread that reopens the state file");
        }
    }

    /// Opens the file and writes to it, until that succeeds or the store is dropped.
    fn reopen(self: Arc<Self>) {
        let store = Arc::downgrade(&self);
        drop(self);
        let (mut delay, max_delay) = REOPEN_DELAYS;
        loop {
            std::thread::sleep(delay);
            delay = (2 * delay).min(max_delay);
            let Some(store) = store.upgrade() else { return };
            let opened = (store.open)().map_err(redb::Error::from);
            match opened.and_then(|database| create_tables(&database).map(|()| database)) {
                Ok(database) => {
                    *store.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
                    tracing::info!("the state file is usable again");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the state file cannot be opened yet; the next attempt is in {delay:?}")
                }
            }
        }
    }
}

/// Why an operation failed.
enum OperationError {
    /// The operation itself was refused.
    Refused(StateError),
    /// The disk failed; the file cannot be used any more.
    Disk(redb::Error),
}

fn disk_failure(error: impl Into<redb::Error>) -> OperationError {
    OperationError::Disk(error.into())
}

/// Creates the tables, because opening a missing table for reading fails. Also verifies that the file is writable.
fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(PAIRS)?;
    count_existing(&write)?;
    Ok(write.commit()?)
}

fn list(database: &Database, bucket: &BucketId, cursor: Option<&str>) -> Result<Vec<String>, redb::Error> {
    let table = database.begin_read()?.open_table(PAIRS)?;
    let start = (&*bucket.service, &*bucket.bucket, cursor.unwrap_or_default());
    let start = if cursor.is_some() { Bound::Excluded(start) } else { Bound::Included(start) };
    let mut keys = Vec::new();
    for entry in table.range::<(&str, &str, &str)>((start, Bound::Unbounded))? {
        let (key, _) = entry?;
        let (service, name, key) = key.value();
        if (service, name) != (&*bucket.service, &*bucket.bucket) || keys.len() > PAGE_SIZE {
            break;
        }
        keys.push(key.to_owned());
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use redb::StorageBackend;

    use super::super::redb_tables::SIZES;
    use super::*;
    use crate::state::{DEFAULT_QUOTA, StateStore};

    /// A disk that fails on request.
    #[derive(Clone, Debug, Default)]
    struct Disk {
        bytes: Arc<Mutex<Vec<u8>>>,
        fails: Arc<AtomicBool>,
    }

    impl Disk {
        fn check(&self) -> io::Result<()> {
            if self.fails.load(Ordering::SeqCst) { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.lock().unwrap().len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let offset = offset as usize;
            out.copy_from_slice(&self.bytes.lock().unwrap()[offset..offset + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check()?;
            self.bytes.lock().unwrap().resize(len as usize, 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check()?;
            let offset = offset as usize;
            self.bytes.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    fn store_on(disk: &Disk) -> StateStore {
        with_quota(disk, DEFAULT_QUOTA)
    }

    fn with_quota(disk: &Disk, quota: usize) -> StateStore {
        let disk = disk.clone();
        let open = move || Database::builder().create_with_backend(disk.clone());
        StateStore::Redb(Arc::new(RedbStore::open_with(Box::new(open), quota).unwrap()))
    }

    fn bucket() -> BucketId {
        BucketId { service: "a".into(), bucket: "default".into() }
    }

    async fn wait_until_healthy(store: &StateStore) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut checks = tokio::time::interval(Duration::from_millis(10));
        while !store.is_healthy() {
            assert!(Instant::now() < deadline, "the store stays unhealthy");
            checks.tick().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_store_recovers_after_a_failure_of_the_disk() {
        let disk = Disk::default();
        let store = store_on(&disk);
        store.set(&bucket(), "k", b"kept".to_vec()).await.unwrap();
        for failures in 1..=2 {
            disk.fails.store(true, Ordering::SeqCst);
            assert!(matches!(store.set(&bucket(), "k", b"lost".to_vec()).await, Err(StateError::Backend(_))));
            assert!(!store.is_healthy());
            assert_eq!(store.failures(), failures);
            assert!(store.get(&bucket(), "k").await.is_err(), "reads fail too");
            assert!(store.increment(&bucket(), "n", 1).await.is_err());
            assert_eq!(store.failures(), failures, "a failure of the disk is counted once");
            disk.fails.store(false, Ordering::SeqCst);
            wait_until_healthy(&store).await;
            assert_eq!(store.get(&bucket(), "k").await.unwrap().as_deref(), Some(&b"kept"[..]));
            assert_eq!(store.increment(&bucket(), "n", 1).await.unwrap(), failures as i64);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refused_operation_is_not_a_failure_of_the_disk() {
        let store = store_on(&Disk::default());
        store.set(&bucket(), "k", b"text".to_vec()).await.unwrap();
        assert!(matches!(store.increment(&bucket(), "k", 1).await, Err(StateError::NotANumber(_))));
        assert!(store.is_healthy());
        assert_eq!(store.failures(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn concurrent_failures_reopen_the_store_once() {
        let disk = Disk::default();
        let store = store_on(&disk);
        disk.fails.store(true, Ordering::SeqCst);
        let mut running = tokio::task::JoinSet::new();
        for number in 0..32 {
            let store = store.clone();
            running.spawn(async move { store.set(&bucket(), &number.to_string(), vec![1]).await.is_err() });
        }
        assert!(running.join_all().await.into_iter().all(|failed| failed));
        disk.fails.store(false, Ordering::SeqCst);
        wait_until_healthy(&store).await;
        store.set(&bucket(), "k", vec![1]).await.unwrap();
        assert_eq!(store.keys(&bucket(), None).await.unwrap().keys, ["k"]);
    }

    fn used(disk: &Disk, service: &str) -> u64 {
        let database = Database::builder().create_with_backend(disk.clone()).unwrap();
        super::super::redb_tables::used(&database, service).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_quota_of_a_service_does_not_affect_other_services() {
        let (disk, other) = (Disk::default(), BucketId { service: "b".into(), bucket: "default".into() });
        let store = with_quota(&disk, 10_000);
        for key in ["1", "2", "3"] {
            store.set(&bucket(), key, vec![0; 3_000]).await.unwrap();
        }
        assert!(matches!(store.set(&bucket(), "4", vec![0; 3_000]).await, Err(StateError::QuotaExceeded(10_000))));
        assert!(
            matches!(store.set(&bucket(), "3", vec![0; 4_000]).await, Err(StateError::QuotaExceeded(_))),
            "a larger value is refused"
        );
        let swapped = store.compare_and_swap(&bucket(), "4", None, vec![0; 3_000]).await;
        assert!(matches!(swapped, Err(StateError::QuotaExceeded(_))), "{swapped:?}");
        assert_eq!(store.get(&bucket(), "4").await.unwrap(), None);
        assert_eq!(store.get(&bucket(), "3").await.unwrap().map(|value| value.len()), Some(3_000));
        assert!(store.is_healthy());
        store.set(&other, "k", vec![0; 9_000]).await.unwrap();
        store.set(&bucket(), "3", vec![0; 2_000]).await.unwrap();
        store.delete(&bucket(), "1").await.unwrap();
        store.set(&bucket(), "4", vec![0; 3_000]).await.unwrap();
        for key in ["2", "3", "4", "none"] {
            store.delete(&bucket(), key).await.unwrap();
        }
        drop(store);
        assert_eq!(used(&disk, "a"), 0, "deleted pairs are not counted");
        assert!(used(&disk, "b") > 9_000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_beyond_its_quota_can_only_shrink() {
        let disk = Disk::default();
        with_quota(&disk, 10_000).set(&bucket(), "k", vec![0; 9_000]).await.unwrap();
        let store = with_quota(&disk, 5_000);
        assert!(matches!(store.set(&bucket(), "n", vec![0]).await, Err(StateError::QuotaExceeded(5_000))));
        store.set(&bucket(), "k", vec![0; 8_000]).await.unwrap();
        store.set(&bucket(), "k", vec![0; 1_000]).await.unwrap();
        store.set(&bucket(), "n", vec![0]).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sizes_are_counted_when_a_file_without_them_is_opened() {
        let disk = Disk::default();
        let database = Database::builder().create_with_backend(disk.clone()).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(PAIRS).unwrap().insert(("a", "default", "k"), &[0; 9_000][..]).unwrap();
        write.open_table(PAIRS).unwrap().insert(("b", "default", "k"), &[0; 10][..]).unwrap();
        write.commit().unwrap();
        drop(database);
        let store = with_quota(&disk, 10_000);
        assert!(matches!(store.set(&bucket(), "n", vec![0; 1_000]).await, Err(StateError::QuotaExceeded(_))));
        drop(store);
        assert_eq!((used(&disk, "a"), used(&disk, "b")), (9_000 + 9 + 128, 10 + 9 + 128));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sizes_that_do_not_match_the_contents_are_corrected_when_the_file_is_opened() {
        let disk = Disk::default();
        with_quota(&disk, 10_000).set(&bucket(), "k", vec![0; 1_000]).await.unwrap();
        // As a host does that counts nothing.
        let database = Database::builder().create_with_backend(disk.clone()).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(PAIRS).unwrap().insert(("a", "default", "k"), &[0; 9_000][..]).unwrap();
        write.open_table(PAIRS).unwrap().insert(("b", "default", "k"), &[0; 10][..]).unwrap();
        write.open_table(SIZES).unwrap().insert("gone", 9_999).unwrap();
        write.commit().unwrap();
        drop(database);
        let store = with_quota(&disk, 10_000);
        assert!(matches!(store.set(&bucket(), "n", vec![0; 1_000]).await, Err(StateError::QuotaExceeded(_))));
        let gone = BucketId { service: "gone".into(), bucket: "default".into() };
        store.set(&gone, "k", vec![0; 9_000]).await.unwrap();
        store.delete(&bucket(), "k").await.unwrap();
        store.set(&bucket(), "n", vec![0; 9_000]).await.unwrap();
        drop(store);
        assert_eq!((used(&disk, "a"), used(&disk, "b")), (9_000 + 9 + 128, 10 + 9 + 128));
    }
}

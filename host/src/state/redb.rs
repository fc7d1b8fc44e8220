//! The store in a file: redb, one table of pairs, every change committed before it is answered. What a service keeps in it
//! is bounded.
//!
//! After the disk has failed once, redb answers nothing any more until the file is opened anew. A thread does that, with
//! growing pauses, for as long as it takes; meanwhile the store says that it is not healthy. All that may wait for the disk
//! runs where no request's task is held up.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable};
use tokio::sync::Semaphore;

use super::bucket::{BucketId, KeyPage, PAGE};
use super::error::StateError;
use super::redb_tables::{TABLE, count, count_anew, size_of};

/// The first pause before the file is opened again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Operations that run at a time.
const AT_ONCE: usize = 64;
/// How much of the file is kept in memory, in bytes.
const CACHE: usize = 64 << 20;

type Open = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

/// Key-value pairs in a file. Only one host can have the file open.
pub struct RedbStore {
    /// None from a failure of the disk until the file could be opened again.
    database: RwLock<Option<Database>>,
    open: Box<Open>,
    /// Operations that run now: a disk that hangs must not take all threads that others wait on.
    running: Arc<Semaphore>,
    failures: AtomicU64,
    /// The most that one service keeps, in bytes.
    room: usize,
}

impl RedbStore {
    pub(super) fn open(path: PathBuf, room: usize) -> Result<RedbStore, StateError> {
        let fail = |reason: String| StateError::Open { path: path.clone(), reason };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fail(error.to_string()))?;
        }
        let file = path.clone();
        RedbStore::with(Box::new(move || Database::builder().set_cache_size(CACHE).create(&file)), room).map_err(fail)
    }

    fn with(open: Box<Open>, room: usize) -> Result<RedbStore, String> {
        let database = open().map_err(|error| error.to_string())?;
        create_tables(&database).map_err(|error| error.to_string())?;
        let running = Arc::new(Semaphore::new(AT_ONCE));
        Ok(RedbStore { database: RwLock::new(Some(database)), open, running, failures: AtomicU64::new(0), room })
    }

    pub(super) fn is_healthy(&self) -> bool {
        // Whoever opens the file holds the lock.
        self.database.try_read().is_ok_and(|database| database.is_some())
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) async fn get(self: &Arc<Self>, bucket: &BucketId, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        let (bucket, key) = (bucket.clone(), key.to_owned());
        self.run(move |database| {
            let table = database.begin_read().map_err(failed)?.open_table(TABLE).map_err(failed)?;
            let value = table.get((&*bucket.service, &*bucket.bucket, key.as_str())).map_err(failed)?;
            Ok(value.map(|value| value.value().to_vec()))
        })
        .await
    }

    /// Reads no value.
    pub(super) async fn exists(self: &Arc<Self>, bucket: &BucketId, key: &str) -> Result<bool, StateError> {
        let (bucket, key) = (bucket.clone(), key.to_owned());
        self.run(move |database| {
            let table = database.begin_read().map_err(failed)?.open_table(TABLE).map_err(failed)?;
            let value = table.get((&*bucket.service, &*bucket.bucket, key.as_str())).map_err(failed)?;
            Ok(value.is_some())
        })
        .await
    }

    pub(super) async fn keys(self: &Arc<Self>, bucket: &BucketId, cursor: Option<&str>) -> Result<KeyPage, StateError> {
        let (bucket, cursor) = (bucket.clone(), cursor.map(str::to_owned));
        self.run(move |database| {
            let mut keys = list(database, &bucket, cursor.as_deref()).map_err(failed)?;
            let more = keys.len() > PAGE;
            keys.truncate(PAGE);
            Ok(KeyPage { cursor: keys.last().filter(|_| more).cloned(), keys })
        })
        .await
    }

    /// Ends when the change is on disk. redb runs one write transaction at a time, which is what makes it one step.
    pub(super) async fn update<T: Send + 'static>(
        self: &Arc<Self>,
        bucket: &BucketId,
        key: &str,
        change: impl FnOnce(Option<&[u8]>) -> Result<(Option<Vec<u8>>, T), StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let (bucket, key, room) = (bucket.clone(), key.to_owned(), self.room);
        self.run(move |database| {
            let write = database.begin_write().map_err(failed)?;
            let answer = {
                let mut table = write.open_table(TABLE).map_err(failed)?;
                let at = (&*bucket.service, &*bucket.bucket, key.as_str());
                let current = table.get(at).map_err(failed)?.map(|value| value.value().to_vec());
                let (value, answer) = change(current.as_deref()).map_err(Failure::Refused)?;
                if value == current {
                    return Ok(answer);
                }
                let size =
                    |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| size_of(&bucket, &key, value.len()));
                let change = (size(&current), size(&value));
                if !count(&write, &bucket.service, change, room as u64).map_err(failed)? {
                    return Err(Failure::Refused(StateError::Full(room)));
                }
                match value {
                    Some(value) => drop(table.insert(at, value.as_slice()).map_err(failed)?),
                    None => drop(table.remove(at).map_err(failed)?),
                }
                answer
            };
            write.commit().map_err(failed)?;
            Ok(answer)
        })
        .await
    }

    /// Runs an operation where it may wait for the disk.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl FnOnce(&Database) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StateError> {
        let place = self.running.clone().acquire_owned().await;
        let store = self.clone();
        let run = move || {
            let _place = place;
            store.run_here(operation)
        };
        let ran = tokio::task::spawn_blocking(run).await;
        ran.unwrap_or_else(|failed| Err(StateError::Backend(failed.to_string())))
    }

    fn run_here<T>(self: &Arc<Self>, operation: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, StateError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = database.as_ref() else {
            return Err(StateError::Backend("the disk failed; the file is being opened again".to_owned()));
        };
        match operation(open) {
            Ok(answer) => Ok(answer),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Disk(error)) => {
                drop(database);
                self.close_after(&error);
                Err(StateError::Backend(error.to_string()))
            }
        }
    }

    /// Closes the file, which can be used no longer, and begins to open it again, unless another operation did so.
    fn close_after(self: &Arc<Self>, error: &redb::Error) {
        let closed = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if closed.is_none() {
            return;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "the state file failed and is being opened again");
        drop(closed);
        let store = self.clone();
        let started = std::thread::Builder::new().name("state file".to_owned()).spawn(move || store.reopen());
        if let Err(error) = started {
            tracing::error!(%error, "no thread opens the state file again");
        }
    }

    /// Opens the file and writes to it, until that succeeds or nobody uses the store any more.
    fn reopen(self: Arc<Self>) {
        let store = Arc::downgrade(&self);
        drop(self);
        let (mut pause, longest) = PAUSES;
        loop {
            std::thread::sleep(pause);
            pause = (2 * pause).min(longest);
            let Some(store) = store.upgrade() else { return };
            let opened = (store.open)().map_err(redb::Error::from);
            match opened.and_then(|database| create_tables(&database).map(|()| database)) {
                Ok(database) => {
                    *store.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
                    tracing::info!("the state file works again");
                    return;
                }
                Err(error) => tracing::warn!(%error, "the state file still fails; it is tried again in {pause:?}"),
            }
        }
    }
}

/// Why an operation did not succeed.
enum Failure {
    /// It asked for something that is not done.
    Refused(StateError),
    /// The file can be used no longer.
    Disk(redb::Error),
}

fn failed(error: impl Into<redb::Error>) -> Failure {
    Failure::Disk(error.into())
}

/// A table exists from its first write on; readers need not care when it was made once at start. That the file can be
/// written is seen by it, too.
fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(TABLE)?;
    count_anew(&write)?;
    Ok(write.commit()?)
}

fn list(database: &Database, bucket: &BucketId, cursor: Option<&str>) -> Result<Vec<String>, redb::Error> {
    let table = database.begin_read()?.open_table(TABLE)?;
    let start = (&*bucket.service, &*bucket.bucket, cursor.unwrap_or_default());
    let start = if cursor.is_some() { Bound::Excluded(start) } else { Bound::Included(start) };
    let mut keys = Vec::new();
    for entry in table.range::<(&str, &str, &str)>((start, Bound::Unbounded))? {
        let (key, _) = entry?;
        let (service, name, key) = key.value();
        if (service, name) != (&*bucket.service, &*bucket.bucket) || keys.len() > PAGE {
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
    use crate::state::{ROOM, StateStore};

    /// A disk that can be told to fail.
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

    fn on(disk: &Disk) -> StateStore {
        with_room(disk, ROOM)
    }

    fn with_room(disk: &Disk, room: usize) -> StateStore {
        let disk = disk.clone();
        let open = move || Database::builder().create_with_backend(disk.clone());
        StateStore::Redb(Arc::new(RedbStore::with(Box::new(open), room).unwrap()))
    }

    fn bucket() -> BucketId {
        BucketId { service: "a".into(), bucket: "default".into() }
    }

    async fn healthy(store: &StateStore) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while !store.is_healthy() {
            assert!(Instant::now() < deadline, "the store stays unhealthy");
            looks.tick().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_disk_that_failed_is_used_again_when_it_works_again() {
        let disk = Disk::default();
        let store = on(&disk);
        store.set(&bucket(), "k", b"kept".to_vec()).await.unwrap();
        for failures in 1..=2 {
            disk.fails.store(true, Ordering::SeqCst);
            assert!(matches!(store.set(&bucket(), "k", b"lost".to_vec()).await, Err(StateError::Backend(_))));
            assert!(!store.is_healthy());
            assert_eq!(store.failures(), failures);
            assert!(store.get(&bucket(), "k").await.is_err(), "what is read of a file that failed may be wrong");
            assert!(store.increment(&bucket(), "n", 1).await.is_err());
            assert_eq!(store.failures(), failures, "one failure of the disk is one, whoever asks meanwhile");
            disk.fails.store(false, Ordering::SeqCst);
            healthy(&store).await;
            assert_eq!(store.get(&bucket(), "k").await.unwrap().as_deref(), Some(&b"kept"[..]));
            assert_eq!(store.increment(&bucket(), "n", 1).await.unwrap(), failures as i64);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_refused_is_no_failure_of_the_disk() {
        let store = on(&Disk::default());
        store.set(&bucket(), "k", b"text".to_vec()).await.unwrap();
        assert!(matches!(store.increment(&bucket(), "k", 1).await, Err(StateError::NotANumber(_))));
        assert!(store.is_healthy());
        assert_eq!(store.failures(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_requests_at_a_failing_disk_leave_one_store_behind() {
        let disk = Disk::default();
        let store = on(&disk);
        disk.fails.store(true, Ordering::SeqCst);
        let mut running = tokio::task::JoinSet::new();
        for number in 0..32 {
            let store = store.clone();
            running.spawn(async move { store.set(&bucket(), &number.to_string(), vec![1]).await.is_err() });
        }
        assert!(running.join_all().await.into_iter().all(|failed| failed));
        disk.fails.store(false, Ordering::SeqCst);
        healthy(&store).await;
        store.set(&bucket(), "k", vec![1]).await.unwrap();
        assert_eq!(store.keys(&bucket(), None).await.unwrap().keys, ["k"]);
    }

    fn taken(disk: &Disk, service: &str) -> u64 {
        let database = Database::builder().create_with_backend(disk.clone()).unwrap();
        super::super::redb_tables::taken(&database, service).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_keeps_no_more_than_its_room_and_takes_none_from_others() {
        let (disk, other) = (Disk::default(), BucketId { service: "b".into(), bucket: "default".into() });
        let store = with_room(&disk, 10_000);
        for key in ["1", "2", "3"] {
            store.set(&bucket(), key, vec![0; 3_000]).await.unwrap();
        }
        assert!(matches!(store.set(&bucket(), "4", vec![0; 3_000]).await, Err(StateError::Full(10_000))));
        assert!(
            matches!(store.set(&bucket(), "3", vec![0; 4_000]).await, Err(StateError::Full(_))),
            "larger than before"
        );
        let swapped = store.compare_and_swap(&bucket(), "4", None, vec![0; 3_000]).await;
        assert!(matches!(swapped, Err(StateError::Full(_))), "{swapped:?}");
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
        assert_eq!(taken(&disk, "a"), 0, "what is gone counts no more");
        assert!(taken(&disk, "b") > 9_000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_keeps_more_than_its_room_may_only_keep_less() {
        let disk = Disk::default();
        with_room(&disk, 10_000).set(&bucket(), "k", vec![0; 9_000]).await.unwrap();
        let store = with_room(&disk, 5_000);
        assert!(matches!(store.set(&bucket(), "n", vec![0]).await, Err(StateError::Full(5_000))));
        store.set(&bucket(), "k", vec![0; 8_000]).await.unwrap();
        store.set(&bucket(), "k", vec![0; 1_000]).await.unwrap();
        store.set(&bucket(), "n", vec![0]).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_was_written_before_it_was_counted_is_counted_when_it_is_opened() {
        let disk = Disk::default();
        let database = Database::builder().create_with_backend(disk.clone()).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(TABLE).unwrap().insert(("a", "default", "k"), &[0; 9_000][..]).unwrap();
        write.open_table(TABLE).unwrap().insert(("b", "default", "k"), &[0; 10][..]).unwrap();
        write.commit().unwrap();
        drop(database);
        let store = with_room(&disk, 10_000);
        assert!(matches!(store.set(&bucket(), "n", vec![0; 1_000]).await, Err(StateError::Full(_))));
        drop(store);
        assert_eq!((taken(&disk, "a"), taken(&disk, "b")), (9_000 + 9 + 128, 10 + 9 + 128));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sizes_that_do_not_match_the_contents_are_corrected_when_the_file_is_opened() {
        let disk = Disk::default();
        with_room(&disk, 10_000).set(&bucket(), "k", vec![0; 1_000]).await.unwrap();
        // As a host does that counts nothing.
        let database = Database::builder().create_with_backend(disk.clone()).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(TABLE).unwrap().insert(("a", "default", "k"), &[0; 9_000][..]).unwrap();
        write.open_table(TABLE).unwrap().insert(("b", "default", "k"), &[0; 10][..]).unwrap();
        write.open_table(SIZES).unwrap().insert("gone", 9_999).unwrap();
        write.commit().unwrap();
        drop(database);
        let store = with_room(&disk, 10_000);
        assert!(matches!(store.set(&bucket(), "n", vec![0; 1_000]).await, Err(StateError::Full(_))));
        let gone = BucketId { service: "gone".into(), bucket: "default".into() };
        store.set(&gone, "k", vec![0; 9_000]).await.unwrap();
        store.delete(&bucket(), "k").await.unwrap();
        store.set(&bucket(), "n", vec![0; 9_000]).await.unwrap();
        drop(store);
        assert_eq!((taken(&disk, "a"), taken(&disk, "b")), (9_000 + 9 + 128, 10 + 9 + 128));
    }
}

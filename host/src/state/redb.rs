//! The store in a file: redb, one table, every change committed before it is answered.

use std::ops::Bound;
use std::path::PathBuf;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{BucketId, KeyPage, PAGE, StateError};

/// (service, bucket, key) to value.
const TABLE: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("keyvalue");

/// Key-value pairs in a file. Only one host can have the file open.
pub struct RedbStore {
    database: Database,
}

impl RedbStore {
    pub(super) fn open(path: PathBuf) -> Result<RedbStore, StateError> {
        let fail = |reason: String| StateError::Open { path: path.clone(), reason };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fail(error.to_string()))?;
        }
        let database = Database::create(&path).map_err(|error| fail(error.to_string()))?;
        let store = RedbStore { database };
        store.create_table().map_err(|error| fail(error.to_string()))?;
        Ok(store)
    }

    /// A table exists from its first write on; readers need not care when it was made once at start.
    fn create_table(&self) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(TABLE)?;
        Ok(write.commit()?)
    }

    pub(super) fn get(&self, bucket: &BucketId, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        let get = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(TABLE)?;
            Ok(table.get((&*bucket.service, &*bucket.bucket, key))?.map(|value| value.value().to_vec()))
        };
        get().map_err(backend)
    }

    pub(super) fn keys(&self, bucket: &BucketId, cursor: Option<&str>) -> Result<KeyPage, StateError> {
        let list = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(TABLE)?;
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
        };
        let mut keys = list().map_err(backend)?;
        let more = keys.len() > PAGE;
        keys.truncate(PAGE);
        Ok(KeyPage { cursor: keys.last().filter(|_| more).cloned(), keys })
    }

    /// Blocks until the change is on disk. redb runs one write transaction at a time, which is what makes it one step.
    pub(super) fn update<T>(
        &self,
        bucket: &BucketId,
        key: &str,
        change: impl FnOnce(Option<&[u8]>) -> Result<(Option<Vec<u8>>, T), StateError>,
    ) -> Result<T, StateError> {
        let write = self.database.begin_write().map_err(backend)?;
        let answer = {
            let mut table = write.open_table(TABLE).map_err(backend)?;
            let at = (&*bucket.service, &*bucket.bucket, key);
            let current = table.get(at).map_err(backend)?.map(|value| value.value().to_vec());
            let (value, answer) = change(current.as_deref())?;
            match value {
                Some(value) if Some(&value) == current.as_ref() => return Ok(answer),
                Some(value) => drop(table.insert(at, value.as_slice()).map_err(backend)?),
                None => drop(table.remove(at).map_err(backend)?),
            }
            answer
        };
        write.commit().map_err(backend)?;
        Ok(answer)
    }
}

fn backend(error: impl Into<redb::Error>) -> StateError {
    StateError::Backend(error.into().to_string())
}

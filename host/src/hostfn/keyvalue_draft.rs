//! `wasi:keyvalue` for standard components: the earlier draft, and the batches of both drafts.
//!
//! Both drafts see the same buckets. The earlier one counts: its cursor is the number of keys already listed, so a
//! listing that goes on while keys come and go may miss some or tell some twice.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::component::StoreData;
use crate::component::bindings::wasi::keyvalue0_2_0_draft2::store::{self, Error};
use crate::component::resources::Bucket;
use crate::component::standard_bindings::wasi::keyvalue0_2_0_draft as draft;
use crate::component::standard_bindings::wasi::keyvalue0_2_0_draft2::batch;
use crate::state::{BucketId, StateError, StateStore};

/// The most keys of one batch.
const BATCH: usize = 10_000;
/// The most bytes that one batch answers with.
const BATCH_BYTES: usize = 64 << 20;

type Value = Option<(String, Vec<u8>)>;
type Pairs = Vec<(String, Vec<u8>)>;

impl From<StateError> for draft::store::Error {
    fn from(error: StateError) -> draft::store::Error {
        draft::store::Error::Other(error.to_string())
    }
}

/// Why a batch was not carried out.
enum BatchError {
    State(StateError),
    TooLarge,
}

impl From<BatchError> for String {
    fn from(error: BatchError) -> String {
        match error {
            BatchError::State(error) => error.to_string(),
            BatchError::TooLarge => format!("a batch has at most {BATCH} keys and answers with {BATCH_BYTES} bytes"),
        }
    }
}

async fn get_many(store: StateStore, bucket: Arc<BucketId>, keys: Vec<String>) -> Result<Vec<Value>, BatchError> {
    check(keys.len())?;
    let (mut values, mut size) = (Vec::with_capacity(keys.len()), 0);
    for key in keys {
        let value = store.get(&bucket, &key).await.map_err(BatchError::State)?;
        size += value.as_ref().map_or(0, Vec::len);
        if size > BATCH_BYTES {
            return Err(BatchError::TooLarge);
        }
        values.push(value.map(|value| (key, value)));
    }
    Ok(values)
}

async fn set_many(store: StateStore, bucket: Arc<BucketId>, pairs: Pairs) -> Result<(), BatchError> {
    check(pairs.len())?;
    for (key, value) in pairs {
        store.set(&bucket, &key, value).await.map_err(BatchError::State)?;
    }
    Ok(())
}

async fn delete_many(store: StateStore, bucket: Arc<BucketId>, keys: Vec<String>) -> Result<(), BatchError> {
    check(keys.len())?;
    for key in keys {
        store.delete(&bucket, &key).await.map_err(BatchError::State)?;
    }
    Ok(())
}

/// The page that begins after so many keys.
async fn page(store: StateStore, bucket: Arc<BucketId>, skip: u64) -> Result<draft::store::KeyResponse, StateError> {
    let (mut cursor, mut seen) = (None, 0_u64);
    loop {
        let page = store.keys(&bucket, cursor.as_deref()).await?;
        let count = page.keys.len() as u64;
        if seen + count > skip || page.cursor.is_none() {
            let keys = page.keys.into_iter().skip(usize::try_from(skip.saturating_sub(seen)).unwrap_or(usize::MAX));
            let cursor = page.cursor.map(|_| seen + count);
            return Ok(draft::store::KeyResponse { keys: keys.collect(), cursor });
        }
        seen += count;
        cursor = page.cursor;
    }
}

fn check(count: usize) -> Result<(), BatchError> {
    if count > BATCH { Err(BatchError::TooLarge) } else { Ok(()) }
}

fn other(error: BatchError) -> Error {
    Error::Other(error.into())
}

fn other_draft(error: BatchError) -> draft::store::Error {
    draft::store::Error::Other(error.into())
}

impl draft::store::Host for StoreData {
    fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, draft::store::Error>> {
        Ok(store::Host::open(self, identifier)?.map_err(|error| match error {
            Error::NoSuchStore => draft::store::Error::NoSuchStore,
            Error::AccessDenied => draft::store::Error::AccessDenied,
            Error::Other(reason) => draft::store::Error::Other(reason),
        }))
    }
}

impl draft::store::HostBucket for StoreData {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.store().get(&bucket, &key).await.map_err(Into::into))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.store().set(&bucket, &key, value).await.map_err(Into::into))
    }

    async fn delete(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<(), draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.store().delete(&bucket, &key).await.map_err(Into::into))
    }

    async fn exists(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<bool, draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        let value = self.store().get(&bucket, &key).await;
        Ok(value.map(|value| value.is_some()).map_err(Into::into))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Result<draft::store::KeyResponse, draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(page(self.store(), bucket, cursor.unwrap_or(0)).await.map_err(Into::into))
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl draft::atomics::Host for StoreData {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        let Ok(delta) = i64::try_from(delta) else {
            return Ok(Err(StateError::NotANumber(key).into()));
        };
        let sum = self.store().increment(&bucket, &key, delta).await;
        // A number below zero was written by somebody who counts with a sign.
        let sum = sum.and_then(|sum| u64::try_from(sum).map_err(|_| StateError::NotANumber(key)));
        Ok(sum.map_err(Into::into))
    }
}

impl draft::batch::Host for StoreData {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Value>, draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(get_many(self.store(), bucket, keys).await.map_err(other_draft))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Pairs,
    ) -> wasmtime::Result<Result<(), draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(set_many(self.store(), bucket, pairs).await.map_err(other_draft))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(delete_many(self.store(), bucket, keys).await.map_err(other_draft))
    }
}

impl batch::Host for StoreData {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Value>, Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(get_many(self.store(), bucket, keys).await.map_err(other))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Pairs) -> wasmtime::Result<Result<(), Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(set_many(self.store(), bucket, pairs).await.map_err(other))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(delete_many(self.store(), bucket, keys).await.map_err(other))
    }
}

//! `wasi:keyvalue` for standard components: the earlier draft, and the batches of both drafts.
//!
//! Both drafts access the same buckets. The cursor of the earlier draft is the number of keys listed so far. A bucket
//! handle keeps the last key of its last page, so that listing continues from there. Any other cursor is counted from
//! the first key, and may skip or repeat keys that are added or deleted meanwhile.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::component::StoreData;
use crate::component::account::{MemoryAccount, MemoryReservation, RESERVATION_OVERHEAD};
use crate::component::bindings::wasi::keyvalue0_2_0_draft2::store::{self, Error};
use crate::component::resources::{Bucket, ListPosition};
use crate::component::standard_bindings::wasi::keyvalue0_2_0_draft as draft;
use crate::component::standard_bindings::wasi::keyvalue0_2_0_draft2::batch;
use crate::state::{BucketId, StateError, StateStore};

/// The most keys in one batch.
const MAX_BATCH_KEYS: usize = 10_000;
/// The most bytes of values that one batch returns.
const MAX_BATCH_BYTES: usize = 64 << 20;

type Value = Option<(String, Vec<u8>)>;
type Pairs = Vec<(String, Vec<u8>)>;

impl From<StateError> for draft::store::Error {
    fn from(error: StateError) -> draft::store::Error {
        draft::store::Error::Other(error.to_string())
    }
}

/// Why a batch failed.
enum BatchError {
    State(StateError),
    TooLarge,
    MemoryLimit,
}

impl From<BatchError> for String {
    fn from(error: BatchError) -> String {
        match error {
            BatchError::State(error) => error.to_string(),
            BatchError::TooLarge => {
                format!("a batch is limited to {MAX_BATCH_KEYS} keys and {MAX_BATCH_BYTES} bytes of values")
            }
            BatchError::MemoryLimit => "the operation exceeds the service's memory limit".to_owned(),
        }
    }
}

/// The values stay reserved on the instance's account until they are copied to the guest.
async fn get_many(
    store: StateStore,
    account: Arc<MemoryAccount>,
    bucket: Arc<BucketId>,
    keys: Vec<String>,
) -> Result<Vec<Value>, BatchError> {
    check_key_count(keys.len())?;
    let (mut values, mut size, mut reservation) = (Vec::with_capacity(keys.len()), 0, account.empty_reservation());
    grow_reservation(&mut reservation, keys.iter().map(String::len))?;
    for key in keys {
        let value = store.get(&bucket, &key).await.map_err(BatchError::State)?;
        size += value.as_ref().map_or(0, Vec::len);
        if size > MAX_BATCH_BYTES {
            return Err(BatchError::TooLarge);
        }
        grow_reservation(&mut reservation, value.iter().map(Vec::len))?;
        values.push(value.map(|value| (key, value)));
    }
    Ok(values)
}

async fn set_many(
    store: StateStore,
    account: Arc<MemoryAccount>,
    bucket: Arc<BucketId>,
    pairs: Pairs,
) -> Result<(), BatchError> {
    check_key_count(pairs.len())?;
    let mut reservation = account.empty_reservation();
    grow_reservation(&mut reservation, pairs.iter().map(|(key, value)| key.len() + value.len()))?;
    for (key, value) in pairs {
        store.set(&bucket, &key, value).await.map_err(BatchError::State)?;
    }
    Ok(())
}

async fn delete_many(
    store: StateStore,
    account: Arc<MemoryAccount>,
    bucket: Arc<BucketId>,
    keys: Vec<String>,
) -> Result<(), BatchError> {
    check_key_count(keys.len())?;
    let mut reservation = account.empty_reservation();
    grow_reservation(&mut reservation, keys.iter().map(String::len))?;
    for key in keys {
        store.delete(&bucket, &key).await.map_err(BatchError::State)?;
    }
    Ok(())
}

/// The keys after the first `skip` keys, and the position after them. `from` is a known position before the page.
async fn page(
    store: StateStore,
    bucket: Arc<BucketId>,
    from: ListPosition,
    skip: u64,
) -> Result<(Vec<String>, Option<ListPosition>), StateError> {
    let ListPosition { count: mut observed, mut key } = from;
    loop {
        let page = store.keys(&bucket, key.as_deref()).await?;
        let count = page.keys.len() as u64;
        if observed + count > skip || page.cursor.is_none() {
            let skipped = usize::try_from(skip.saturating_sub(observed)).unwrap_or(usize::MAX);
            let keys = page.keys.into_iter().skip(skipped).collect();
            return Ok((keys, page.cursor.map(|key| ListPosition { count: observed + count, key: Some(key) })));
        }
        observed += count;
        key = page.cursor;
    }
}

/// Reserves host memory for a batch.
fn grow_reservation(reservation: &mut MemoryReservation, sizes: impl Iterator<Item = usize>) -> Result<(), BatchError> {
    let bytes = sizes.fold(0, |sum: usize, size| sum.saturating_add(size.saturating_add(RESERVATION_OVERHEAD)));
    if reservation.try_grow(bytes) { Ok(()) } else { Err(BatchError::MemoryLimit) }
}

fn check_key_count(count: usize) -> Result<(), BatchError> {
    if count > MAX_BATCH_KEYS { Err(BatchError::TooLarge) } else { Ok(()) }
}

fn to_error(error: BatchError) -> Error {
    Error::Other(error.into())
}

fn to_draft_error(error: BatchError) -> draft::store::Error {
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
        Ok(self.store().exists(&bucket, &key).await.map_err(Into::into))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Result<draft::store::KeyResponse, draft::store::Error>> {
        let (id, list_position) = (self.bucket(&bucket)?, self.table.get_mut(&bucket)?.list_position.take());
        let skip = cursor.unwrap_or(0);
        let from = list_position.filter(|list_position| list_position.count == skip).unwrap_or_default();
        match page(self.store(), id, from, skip).await {
            Ok((keys, list_position)) => {
                let cursor = list_position.as_ref().map(|list_position| list_position.count);
                self.table.get_mut(&bucket)?.list_position = list_position;
                Ok(Ok(draft::store::KeyResponse { keys, cursor }))
            }
            Err(error) => Ok(Err(error.into())),
        }
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
        Ok(self.store().increment_unsigned(&bucket, &key, delta).await.map_err(Into::into))
    }
}

impl draft::batch::Host for StoreData {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Value>, draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(get_many(self.store(), self.account.clone(), bucket, keys).await.map_err(to_draft_error))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Pairs,
    ) -> wasmtime::Result<Result<(), draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(set_many(self.store(), self.account.clone(), bucket, pairs).await.map_err(to_draft_error))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(delete_many(self.store(), self.account.clone(), bucket, keys).await.map_err(to_draft_error))
    }
}

impl batch::Host for StoreData {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Value>, Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(get_many(self.store(), self.account.clone(), bucket, keys).await.map_err(to_error))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Pairs) -> wasmtime::Result<Result<(), Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(set_many(self.store(), self.account.clone(), bucket, pairs).await.map_err(to_error))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(delete_many(self.store(), self.account.clone(), bucket, keys).await.map_err(to_error))
    }
}

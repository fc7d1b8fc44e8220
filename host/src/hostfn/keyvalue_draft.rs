//! `wasi:keyvalue` for standard components: the earlier draft, and the batches of both drafts.
//!
//! Both drafts see the same buckets. The earlier one counts: its cursor is the number of keys already list_position. A handle to a
//! bucket remembers the key at which its last page ended, so that a listing goes on from there; any other cursor is counted
//! from the first key, and may miss keys or tell some twice where keys come and go meanwhile.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::component::StoreData;
use crate::component::account::{MemoryAccount, MemoryReservation, RESERVATION_OVERHEAD};
use crate::component::bindings::wasi::keyvalue0_2_0_draft2::store::{self, Error};
use crate::component::resources::{Bucket, ListPosition};
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
    NoRoom,
}

impl From<BatchError> for String {
    fn from(error: BatchError) -> String {
        match error {
            BatchError::State(error) => error.to_string(),
            BatchError::TooLarge => format!("a batch has at most {BATCH} keys and answers with {BATCH_BYTES} bytes"),
            BatchError::NoRoom => "the service's memory limit has no room for it".to_owned(),
        }
    }
}

/// Values are reservation on the instance's account from when they are read until the guest has them.
async fn get_many(
    store: StateStore,
    account: Arc<MemoryAccount>,
    bucket: Arc<BucketId>,
    keys: Vec<String>,
) -> Result<Vec<Value>, BatchError> {
    check(keys.len())?;
    let (mut values, mut size, mut reservation) = (Vec::with_capacity(keys.len()), 0, account.empty_reservation());
    hold(&mut reservation, keys.iter().map(String::len))?;
    for key in keys {
        let value = store.get(&bucket, &key).await.map_err(BatchError::State)?;
        size += value.as_ref().map_or(0, Vec::len);
        if size > BATCH_BYTES {
            return Err(BatchError::TooLarge);
        }
        hold(&mut reservation, value.iter().map(Vec::len))?;
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
    check(pairs.len())?;
    let mut reservation = account.empty_reservation();
    hold(&mut reservation, pairs.iter().map(|(key, value)| key.len() + value.len()))?;
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
    check(keys.len())?;
    let mut reservation = account.empty_reservation();
    hold(&mut reservation, keys.iter().map(String::len))?;
    for key in keys {
        store.delete(&bucket, &key).await.map_err(BatchError::State)?;
    }
    Ok(())
}

/// The page that begins after `skip` keys, found from a place that is known to be before it, and where it ended.
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

/// Holds what the host has in its memory of a batch, if there is room.
fn hold(reservation: &mut MemoryReservation, sizes: impl Iterator<Item = usize>) -> Result<(), BatchError> {
    let bytes = sizes.fold(0, |sum: usize, size| sum.saturating_add(size.saturating_add(RESERVATION_OVERHEAD)));
    if reservation.try_grow(bytes) { Ok(()) } else { Err(BatchError::NoRoom) }
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
        Ok(get_many(self.store(), self.account.clone(), bucket, keys).await.map_err(other_draft))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Pairs,
    ) -> wasmtime::Result<Result<(), draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(set_many(self.store(), self.account.clone(), bucket, pairs).await.map_err(other_draft))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), draft::store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(delete_many(self.store(), self.account.clone(), bucket, keys).await.map_err(other_draft))
    }
}

impl batch::Host for StoreData {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Value>, Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(get_many(self.store(), self.account.clone(), bucket, keys).await.map_err(other))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Pairs) -> wasmtime::Result<Result<(), Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(set_many(self.store(), self.account.clone(), bucket, pairs).await.map_err(other))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(delete_many(self.store(), self.account.clone(), bucket, keys).await.map_err(other))
    }
}

//! `wasi:keyvalue`: the service's buckets in the host's state store.
//!
//! Any identifier opens a bucket of that name, which belongs to the service alone.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::component::StoreData;
use crate::component::bindings::wasi::keyvalue0_2_0_draft2::{atomics, store};
use crate::component::resources::{Bucket, CasSnapshot};
use crate::state::{BucketId, CasOutcome, MAX_BUCKET, StateError, StateStore};

impl From<StateError> for store::Error {
    fn from(error: StateError) -> store::Error {
        store::Error::Other(error.to_string())
    }
}

fn memory_limit_reached() -> store::Error {
    store::Error::Other("the operation exceeds the service's memory limit".to_owned())
}

impl StoreData {
    /// A clone of the store, because `self` may not be borrowed across an await.
    pub(super) fn store(&self) -> StateStore {
        self.context().state.clone()
    }

    /// Creates a compare-and-swap snapshot, if the memory limit allows it.
    fn snapshot(
        &mut self,
        bucket: Arc<BucketId>,
        key: String,
        observed: Option<Vec<u8>>,
    ) -> wasmtime::Result<Result<Resource<CasSnapshot>, store::Error>> {
        let size = key.len() + observed.as_ref().map_or(0, Vec::len);
        let Some(reservation) = self.account.reserve(size) else { return Ok(Err(memory_limit_reached())) };
        Ok(Ok(self.table.push(CasSnapshot { bucket, key, observed, _reservation: reservation })?))
    }

    pub(super) fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Arc<BucketId>> {
        Ok(self.table.get(bucket)?.id.clone())
    }
}

impl store::Host for StoreData {
    fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, store::Error>> {
        if identifier.len() > MAX_BUCKET {
            let (size, limit) = (identifier.len(), MAX_BUCKET);
            return Ok(Err(StateError::TooLarge { what: "a bucket's name", size, limit }.into()));
        }
        let Some(reservation) = self.account.reserve(identifier.len()) else { return Ok(Err(memory_limit_reached())) };
        let id = BucketId { service: self.context().name.clone(), bucket: identifier.into() };
        Ok(Ok(self.table.push(Bucket { id: Arc::new(id), list_position: None, _reservation: reservation })?))
    }
}

impl store::HostBucket for StoreData {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.store().get(&bucket, &key).await.map_err(Into::into))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.store().set(&bucket, &key, value).await.map_err(Into::into))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> wasmtime::Result<Result<(), store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.store().delete(&bucket, &key).await.map_err(Into::into))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> wasmtime::Result<Result<bool, store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.store().exists(&bucket, &key).await.map_err(Into::into))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<store::KeyResponse, store::Error>> {
        let bucket = self.bucket(&bucket)?;
        let page = self.store().keys(&bucket, cursor.as_deref()).await;
        Ok(page.map(|page| store::KeyResponse { keys: page.keys, cursor: page.cursor }).map_err(Into::into))
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for StoreData {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, store::Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.store().increment(&bucket, &key, delta).await.map_err(Into::into))
    }

    async fn swap(
        &mut self,
        cas: Resource<CasSnapshot>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let CasSnapshot { bucket, key, observed, _reservation: reservation } = self.table.delete(cas)?;
        match self.store().compare_and_swap(&bucket, &key, observed, value).await {
            Ok(CasOutcome::Stored) => Ok(Ok(())),
            Ok(CasOutcome::Conflict(observed)) => {
                drop(reservation);
                match self.snapshot(bucket, key, observed)? {
                    Ok(fresh) => Ok(Err(atomics::CasError::CasFailed(fresh))),
                    Err(error) => Ok(Err(atomics::CasError::StoreError(error))),
                }
            }
            Err(error) => Ok(Err(atomics::CasError::StoreError(error.into()))),
        }
    }
}

impl atomics::HostCas for StoreData {
    async fn new(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<CasSnapshot>, store::Error>> {
        let bucket = self.bucket(&bucket)?;
        match self.store().get(&bucket, &key).await {
            Ok(observed) => self.snapshot(bucket, key, observed),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn current(&mut self, cas: Resource<CasSnapshot>) -> wasmtime::Result<Result<Option<Vec<u8>>, store::Error>> {
        Ok(Ok(self.table.get(&cas)?.observed.clone()))
    }

    fn drop(&mut self, cas: Resource<CasSnapshot>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

//! Storage through `wasi:keyvalue@0.2.0-draft`, which has no compare-and-swap. An update as a read and a write could
//! lose concurrent writes, so it fails.

use crate::proposals::wasi::keyvalue0_2_0_draft::store;

pub use store::{Bucket, Error as StoreError};

/// Opens a bucket. On some hosts, the default bucket has an empty name.
pub fn open(identifier: &str) -> Result<Bucket, StoreError> {
    match store::open(identifier) {
        Err(StoreError::NoSuchStore) if identifier == "default" => store::open(""),
        opened => opened,
    }
}

/// The value of a key at the time it was read.
#[derive(Debug)]
pub struct Cas(Option<Vec<u8>>);

#[derive(Debug)]
pub enum CasError {
    StoreError(StoreError),
    #[expect(dead_code, reason = "nothing is ever swapped, but callers handle it")]
    CasFailed(Cas),
}

impl Cas {
    pub fn new(bucket: &Bucket, key: &str) -> Result<Self, StoreError> {
        bucket.get(key).map(Self)
    }

    pub fn current(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.clone())
    }
}

pub fn swap(_: Cas, _: &[u8]) -> Result<(), CasError> {
    let reason = "`wasi:keyvalue@0.2.0-draft` has no compare-and-swap";
    Err(CasError::StoreError(StoreError::Other(reason.to_owned())))
}

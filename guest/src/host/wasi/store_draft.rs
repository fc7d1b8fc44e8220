//! Storage by `wasi:keyvalue@0.2.0-draft`, which has no compare-and-swap. A read followed by a write could lose what
//! another request wrote between them, so an update is refused.

use crate::proposals::wasi::keyvalue0_2_0_draft::store;

pub use store::{Bucket, Error as StoreError};

/// Opens a bucket. Some hosts call the one that all of them have by the empty name.
pub fn open(identifier: &str) -> Result<Bucket, StoreError> {
    match store::open(identifier) {
        Err(StoreError::NoSuchStore) if identifier == "default" => store::open(""),
        opened => opened,
    }
}

/// The value of one key at one moment.
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

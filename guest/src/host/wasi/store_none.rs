//! No storage: every operation fails, and the component also starts on hosts without `wasi:keyvalue`.

pub use crate::host::types::StoreError;

#[derive(Debug)]
pub struct Bucket(());

#[derive(Debug)]
pub struct Cas(());

#[derive(Debug)]
pub enum CasError {
    StoreError(StoreError),
    #[expect(dead_code, reason = "nothing is ever swapped, but callers handle it")]
    CasFailed(Cas),
}

pub fn open(_: &str) -> Result<Bucket, StoreError> {
    Err(refused())
}

impl Bucket {
    pub fn get(&self, _: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Err(refused())
    }

    pub fn set(&self, _: &str, _: &[u8]) -> Result<(), StoreError> {
        Err(refused())
    }

    pub fn delete(&self, _: &str) -> Result<(), StoreError> {
        Err(refused())
    }
}

impl Cas {
    pub fn new(_: &Bucket, _: &str) -> Result<Self, StoreError> {
        Err(refused())
    }

    pub fn current(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Err(refused())
    }
}

pub fn swap(_: Cas, _: &[u8]) -> Result<(), CasError> {
    Err(CasError::StoreError(refused()))
}

fn refused() -> StoreError {
    StoreError::Other("the component was built without `wasi:keyvalue`".to_owned())
}

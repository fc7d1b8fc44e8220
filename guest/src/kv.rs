//! Persistent key-value data: `wasi:keyvalue`.

use crate::host::{self, Cas, CasError, StoreError};

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no bucket with this identifier.
    #[error("the host has no such bucket")]
    NoSuchStore,
    /// The service may not access the bucket.
    #[error("this service may not use that bucket")]
    AccessDenied,
    /// Another failure, such as a disk error.
    #[error("the store failed: {0}")]
    Other(String),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchStore => Self::NoSuchStore,
            StoreError::AccessDenied => Self::AccessDenied,
            StoreError::Other(reason) => Self::Other(reason),
        }
    }
}

/// A bucket: keys and their values. Open it in each request.
#[derive(Debug)]
pub struct Bucket(host::Bucket);

/// Opens the bucket with this identifier. Every host has `default`.
///
/// # Errors
/// If the bucket does not exist or the service may not access it.
pub fn open(identifier: &str) -> Result<Bucket, Error> {
    Ok(Bucket(host::open(identifier)?))
}

impl Bucket {
    /// The bytes stored at `key`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(key)?)
    }

    /// Stores `value` at `key`, replacing any value there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        Ok(self.0.set(key, value)?)
    }

    /// Removes `key` and its value.
    ///
    /// # Errors
    /// If the store fails.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.0.delete(key)?)
    }

    /// Replaces the value at `key` atomically by what `step` computes from it (a compare-and-swap loop).
    ///
    /// `step` receives the current bytes and returns the new ones and a result for the caller. If another request wrote
    /// the key in between, `step` runs again on the new value, so it must have no side effects. Each retry means that
    /// another request succeeded; the host's request timeout bounds the number of retries.
    ///
    /// # Errors
    /// The error of `step`, in which case nothing is written, or a failure of the store.
    pub fn update<T, E>(
        &self,
        key: &str,
        mut step: impl FnMut(Option<&[u8]>) -> Result<(Vec<u8>, T), E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        let mut cas = Cas::new(&self.0, key).map_err(Error::from)?;
        loop {
            let present = cas.current().map_err(Error::from)?;
            let (value, result) = step(present.as_deref())?;
            match host::swap(cas, &value) {
                Ok(()) => return Ok(result),
                Err(CasError::CasFailed(fresh)) => cas = fresh,
                Err(CasError::StoreError(error)) => return Err(Error::from(error).into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: Option<&[u8]>) -> u64 {
        bytes.map_or(0, |bytes| std::str::from_utf8(bytes).unwrap().parse().unwrap())
    }

    #[test]
    fn an_update_starts_again_when_another_request_wrote_first() {
        let bucket = open("default").unwrap();
        let mut rounds = 0;
        let sum = bucket.update::<u64, Error>("counter", |present| {
            rounds += 1;
            if rounds == 1 {
                open("default").unwrap().set("counter", b"40").unwrap();
            }
            let sum = number(present) + 2;
            Ok((sum.to_string().into_bytes(), sum))
        });
        assert_eq!((sum.unwrap(), rounds), (42, 2));
        assert_eq!(bucket.get("counter").unwrap().as_deref(), Some(b"42".as_slice()));
    }

    #[test]
    fn a_refused_update_writes_nothing() {
        let bucket = open("default").unwrap();
        let refused = bucket.update::<(), Error>("refused", |_| Err(Error::AccessDenied));
        assert!(matches!(refused, Err(Error::AccessDenied)));
        assert_eq!(bucket.get("refused").unwrap(), None);
    }
}

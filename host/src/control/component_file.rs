//! Reads the component file of a service completely, even if it is being written meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::completeness::is_complete;
use super::file_stamp::FileStamp;
use crate::config::ServiceConfig;
use crate::services::{BuildError, GenerationBuilder};

/// The time between two reads of a file that looks incomplete.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// The longest time to read a file again that changes during reads.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// Reads the component that the manifest names. A file that changes during the read is read again: a partial component
/// would be rejected for errors that the complete one does not have.
pub(super) async fn read(builder: &GenerationBuilder, config: &ServiceConfig) -> Result<Arc<[u8]>, BuildError> {
    read_when_stable(&config.component, || builder.read(config)).await
}

async fn read_when_stable<E, R>(path: &Path, read: impl Fn() -> R) -> Result<Arc<[u8]>, E>
where
    R: Future<Output = Result<Arc<[u8]>, E>>,
{
    let began = Instant::now();
    loop {
        let before = FileStamp::of(path).await;
        let bytes = read().await;
        if bytes.as_ref().is_ok_and(|bytes| !is_complete(bytes)) {
            tokio::time::sleep(RETRY_DELAY).await;
        }
        if before == FileStamp::of(path).await || began.elapsed() > MAX_WAIT {
            return bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A component with one custom section.
    const COMPLETE: &[u8] = b"\0asm\x0d\0\x01\0\0\x03\x01ab";

    /// The result of `read_when_stable` for a file that has these contents, one after each read.
    async fn read_while_written(contents: &[&[u8]]) -> Arc<[u8]> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("component.wasm");
        fs::write(&path, contents[0]).unwrap();
        let reads = AtomicUsize::new(0);
        let read = || {
            let bytes = fs::read(&path).unwrap();
            if let Some(next) = contents.get(reads.fetch_add(1, Ordering::Relaxed) + 1) {
                fs::write(&path, next).unwrap();
            }
            std::future::ready(Ok::<_, std::io::Error>(bytes.into()))
        };
        read_when_stable(&path, read).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_that_changes_during_a_read_is_read_again() {
        let half = &COMPLETE[..COMPLETE.len() - 2];
        assert_eq!(*read_while_written(&[b"", COMPLETE]).await, *COMPLETE);
        assert_eq!(*read_while_written(&[half, COMPLETE]).await, *COMPLETE);
        assert_eq!(*read_while_written(&[b"", half, COMPLETE]).await, *COMPLETE);
    }

    #[tokio::test]
    async fn a_file_that_stays_incomplete_is_returned_unchanged() {
        let half = &COMPLETE[..COMPLETE.len() - 2];
        assert_eq!(*read_while_written(&[half]).await, *half);
        assert_eq!(*read_while_written(&[b""]).await, *b"");
        assert_eq!(*read_while_written(&[b"#!/bin/sh"]).await, *b"#!/bin/sh");
    }
}

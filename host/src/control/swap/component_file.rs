//! Reads the component file of a service for a swap completely, even if it is being written meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::ServiceConfig;
use crate::control::stamp::Stamp;
use crate::control::whole::is_whole;
use crate::services::{BuildError, GenerationBuilder};

/// How long to wait for a file that looks incomplete to grow.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a file that changes during reads is read again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads the component that the manifest names. A file that changes during the read is read again: a partial component
/// would be rejected for errors that the complete one does not have.
pub(super) async fn read(builder: &GenerationBuilder, config: &ServiceConfig) -> Result<Arc<[u8]>, BuildError> {
    settled(&config.component, || builder.read(config)).await
}

async fn settled<E, R>(path: &Path, read: impl Fn() -> R) -> Result<Arc<[u8]>, E>
where
    R: Future<Output = Result<Arc<[u8]>, E>>,
{
    let began = Instant::now();
    loop {
        let before = Stamp::of(path).await;
        let bytes = read().await;
        if bytes.as_ref().is_ok_and(|bytes| !is_whole(bytes)) {
            tokio::time::sleep(PAUSE).await;
        }
        if before == Stamp::of(path).await || began.elapsed() > PATIENCE {
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
    const WHOLE: &[u8] = b"\0asm\x0d\0\x01\0\0\x03\x01ab";

    /// The result of `settled` for a file that has these contents, one after each read.
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
        settled(&path, read).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_that_is_written_while_it_is_read_is_read_again() {
        let half = &WHOLE[..WHOLE.len() - 2];
        assert_eq!(*read_while_written(&[b"", WHOLE]).await, *WHOLE);
        assert_eq!(*read_while_written(&[half, WHOLE]).await, *WHOLE);
        assert_eq!(*read_while_written(&[b"", half, WHOLE]).await, *WHOLE);
    }

    #[tokio::test]
    async fn a_file_that_stays_cut_off_is_returned_as_it_is() {
        let half = &WHOLE[..WHOLE.len() - 2];
        assert_eq!(*read_while_written(&[half]).await, *half);
        assert_eq!(*read_while_written(&[b""]).await, *b"");
        assert_eq!(*read_while_written(&[b"#!/bin/sh"]).await, *b"#!/bin/sh");
    }
}

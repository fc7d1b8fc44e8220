//! Identity and state of a file, to detect changes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Equal stamps mean that the file was not written. The time of the last change of data or metadata (ctime) cannot be
/// set, so it also reveals a copy that preserved length and modification time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileStamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// The stamp of the file at a path, symbolic links followed. `None` if there is no file.
    pub async fn of(path: &Path) -> Option<FileStamp> {
        let metadata = tokio::fs::metadata(path).await.ok()?;
        Some(FileStamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    #[cfg(test)]
    pub fn of_length(length: u64) -> FileStamp {
        FileStamp { length, ..FileStamp::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};

    use super::*;

    #[tokio::test]
    async fn a_copy_with_the_same_length_and_modification_time_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("component.wasm");
        fs::write(&path, "one").unwrap();
        let before = FileStamp::of(&path).await.unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        // The clock of file timestamps can have a resolution of a few milliseconds.
        while FileStamp::of(&path).await == Some(before) {
            fs::write(&path, "two").unwrap();
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_times(FileTimes::new().set_modified(modified))
                .unwrap();
        }
        let after = FileStamp::of(&path).await.unwrap();
        assert_eq!((after.length, after.modified, after.inode), (before.length, before.modified, before.inode));
    }
}

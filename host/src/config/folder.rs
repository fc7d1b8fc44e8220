//! Folders of the host that components see.

use std::path::PathBuf;

/// A folder of the host that a component sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// `host`: where it is.
    pub host: PathBuf,
    /// `guest`: where the component finds it.
    pub guest: String,
    /// `access`.
    pub access: Access,
}

/// What a component may do in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// `read-only`.
    #[default]
    Read,
    /// `read-write`.
    Write,
}

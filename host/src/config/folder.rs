//! Folders of the host that components can access.

use std::path::PathBuf;

/// A folder of the host that a component can access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// `host`: the path on the host.
    pub host: PathBuf,
    /// `guest`: the path in the component.
    pub guest: String,
    /// `access`.
    pub access: Access,
}

/// The access of a component to a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// `read-only`.
    #[default]
    Read,
    /// `read-write`.
    Write,
}

//! The folders of the benchmark: its sources and the target folder.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The sources of this package.
pub(crate) fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The target folder, whose `release/` contains this program.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    program.ancestors().nth(2).map(PathBuf::from).context("this program is not in a target folder")
}

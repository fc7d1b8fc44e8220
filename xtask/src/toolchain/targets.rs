//! The targets that components are built for, and whether they are installed.

use std::path::Path;

/// The target of the components.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// `cargo component` requires the older target too, whichever one it builds for.
pub(super) const TARGETS: [&str; 2] = [TARGET, "wasm32-wasip1"];

/// Whether a folder of targets contains a standard library for each of them.
pub(super) fn has_targets(rustlib: &Path) -> bool {
    TARGETS.iter().all(|target| has_std(&rustlib.join(target)))
}

/// Whether a target's folder contains a standard library.
fn has_std(target: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(target.join("lib")) else { return false };
    files.flatten().any(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

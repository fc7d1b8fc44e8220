//! Paths of build artifacts that the tests use.

use std::path::{Path, PathBuf};

/// The file of a component, by the name of its package. Panics with the command to build it if it is missing.
pub fn component(package: &str) -> PathBuf {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let path = target().join("wasm32-wasip2/release").join(file);
    assert!(path.is_file(), "{} is not there: run `cargo xtask build` first", path.display());
    path
}

/// A service of the shop as a component of `wasi:http`, in one of the variants of `xtask/src/components/portable.rs`.
/// Panics with the command to build it if it is missing.
pub fn portable(way: &str, package: &str) -> PathBuf {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let path = target().join("portable").join(way).join(file);
    assert!(path.is_file(), "{} is not there: run `cargo xtask test components` first", path.display());
    path
}

/// The host's binary, of the profile of this test. Panics with the command to build it if it is missing.
pub fn binary() -> PathBuf {
    let path = profile().join("spandrel");
    assert!(path.is_file(), "{} is not there: run `cargo build -p spandrel` first", path.display());
    path
}

/// `wasmtime` of the release that the host uses; `None` if it was not fetched.
pub fn reference() -> Option<PathBuf> {
    Some(target().join("reference/wasmtime")).filter(|path| path.is_file())
}

/// A component of the polyglot example, such as `product_service`. Prints a message and returns `None` if it was not
/// built.
pub fn polyglot(name: &str) -> Option<PathBuf> {
    let path = target().join("polyglot").join(format!("{name}.wasm"));
    if !path.is_file() {
        println!("SKIPPED: {} is not there; `cargo xtask polyglot` builds it", path.display());
        return None;
    }
    Some(path)
}

/// The cache of compiled components, kept between test runs.
pub fn cache() -> PathBuf {
    target().join("tmp/testkit-cache")
}

/// The folder of the profile, which contains `deps`, which contains this executable.
fn profile() -> PathBuf {
    let executable = std::env::current_exe().expect("the path of this test");
    let folder = executable.parent().expect("a folder holds this test");
    match folder.ends_with("deps") || folder.ends_with("examples") {
        true => folder.parent().map(Path::to_owned).unwrap_or_default(),
        false => folder.to_owned(),
    }
}

fn target() -> PathBuf {
    profile().parent().map(Path::to_owned).unwrap_or_default()
}

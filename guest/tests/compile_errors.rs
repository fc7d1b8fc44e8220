//! The compiler's messages for invalid handlers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_error_for_an_async_handler_says_that_handlers_are_synchronous() {
    let errors = compile(
        "use guest::{Json, Request, Router};
        async fn hello(_: &Request<'_>) -> Json<u8> { Json(1) }
        pub fn routes() -> Router { Router::new().get(\"/hello\", hello) }",
    );
    for expected in ["handlers are synchronous functions: write `fn`, not `async fn`", "use `guest::client::send_all`"]
    {
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn the_error_for_a_wrong_return_type_names_the_trait() {
    let errors = compile(
        "use guest::{Request, Router};
        fn hello(_: &Request) -> u8 { 1 }
        pub fn routes() -> Router { Router::new().get(\"/hello\", hello) }",
    );
    assert!(errors.contains("`u8` is not a response"), "{errors}");
}

#[test]
fn a_valid_handler_compiles() {
    let errors = compile(
        "use guest::{Json, Request, Router};
        fn hello(_: &Request) -> Json<u8> { Json(1) }
        pub fn routes() -> Router { Router::new().get(\"/hello\", hello) }",
    );
    assert_eq!(errors, "");
}

/// Compiles a crate against the library that this test is linked with, and returns the errors.
fn compile(code: &str) -> String {
    let dependencies = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("lib.rs");
    fs::write(&source, code).unwrap();
    let mut library = std::ffi::OsString::from("guest=");
    library.push(newest_library(&dependencies));
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--extern"])
        .arg(library)
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .arg("--out-dir")
        .arg(folder.path())
        .arg(source)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The newest of several builds of the library, which have different features of dependencies.
fn newest_library(folder: &Path) -> PathBuf {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libguest-") && name.ends_with(".rlib")
    };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(is_library).max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap()
}

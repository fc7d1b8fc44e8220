//! Suggests how to get a missing component: the command that builds it, if there is one.

use std::path::Path;

/// Cargo's target folder, and the folder for component targets in it.
const TARGET: &str = "target";
const WASM: &str = "wasm32-wasip2";

/// A suggestion if the component at `path` cannot be read.
pub(super) fn remedy(path: &Path) -> String {
    let correct = "correct `component` in the manifest";
    match build_command(path) {
        Some(command) => format!("Build it with {command}, or {correct}"),
        None => format!("Make sure that the file is there, or {correct}"),
    }
}

/// The command that writes this file, if the path is one that cargo writes components to and there is a package to
/// build.
fn build_command(path: &Path) -> Option<String> {
    let profile_folder = path.parent()?;
    let wasm = profile_folder.parent().filter(|folder| folder.ends_with(WASM))?;
    let root = wasm.parent().filter(|folder| folder.ends_with(TARGET))?.parent()?;
    let is_there = |file: &str| root.join(file).is_file();
    if is_there("xtask/Cargo.toml") {
        return Some("`cargo xtask build`".to_owned());
    }
    let profile = match profile_folder.file_name()?.to_str()? {
        "debug" => String::new(),
        "release" => " --release".to_owned(),
        other => format!(" --profile {other}"),
    };
    is_there("Cargo.toml").then(|| format!("`cargo build{profile} --target {WASM}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_builds_is_named_where_there_is_something_to_build() {
        let folder = tempfile::tempdir().unwrap();
        let check = |file: &str, words: &str| {
            let said = remedy(&folder.path().join(file));
            assert!(said.starts_with(words) && said.ends_with("or correct `component` in the manifest"), "{said}");
        };
        let release = "target/wasm32-wasip2/release/shop.wasm";
        check(release, "Make sure that the file is there");
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        check(release, "Build it with `cargo build --release --target wasm32-wasip2`");
        check("target/wasm32-wasip2/debug/shop.wasm", "Build it with `cargo build --target wasm32-wasip2`");
        check(
            "target/wasm32-wasip2/small/shop.wasm",
            "Build it with `cargo build --profile small --target wasm32-wasip2`",
        );
        check("shop.wasm", "Make sure that the file is there");
        std::fs::create_dir(folder.path().join("xtask")).unwrap();
        std::fs::write(folder.path().join("xtask/Cargo.toml"), "").unwrap();
        check(release, "Build it with `cargo xtask build`");
        check("", "Make sure that the file is there");
    }
}

//! A suggestion for a component file that cannot be read: the command that builds it, if there is one.

use std::path::Path;

/// Cargo's target folder.
const TARGET: &str = "target";
/// The folder for components in the target folder.
const WASM: &str = "wasm32-wasip2";

/// What an operator can do if the component at `path` cannot be read.
pub(super) fn suggestion(path: &Path) -> String {
    let alternative = "correct `component` in the manifest";
    match build_command(path) {
        Some(command) => format!("Build it with {command}, or {alternative}"),
        None => format!("Make sure that the file exists, or {alternative}"),
    }
}

/// The command that writes this file, if cargo writes components to this path and a package to build exists.
fn build_command(path: &Path) -> Option<String> {
    let profile_folder = path.parent()?;
    let wasm = profile_folder.parent().filter(|folder| folder.ends_with(WASM))?;
    let root = wasm.parent().filter(|folder| folder.ends_with(TARGET))?.parent()?;
    let exists = |file: &str| root.join(file).is_file();
    if exists("xtask/Cargo.toml") {
        return Some("`cargo xtask build`".to_owned());
    }
    let profile = match profile_folder.file_name()?.to_str()? {
        "debug" => String::new(),
        "release" => " --release".to_owned(),
        other => format!(" --profile {other}"),
    };
    exists("Cargo.toml").then(|| format!("`cargo build{profile} --target {WASM}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suggestion_names_the_build_command_if_a_package_exists() {
        let folder = tempfile::tempdir().unwrap();
        let check = |file: &str, start: &str| {
            let text = suggestion(&folder.path().join(file));
            assert!(text.starts_with(start) && text.ends_with("or correct `component` in the manifest"), "{text}");
        };
        let release = "target/wasm32-wasip2/release/shop.wasm";
        check(release, "Make sure that the file exists");
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        check(release, "Build it with `cargo build --release --target wasm32-wasip2`");
        check("target/wasm32-wasip2/debug/shop.wasm", "Build it with `cargo build --target wasm32-wasip2`");
        check(
            "target/wasm32-wasip2/small/shop.wasm",
            "Build it with `cargo build --profile small --target wasm32-wasip2`",
        );
        check("shop.wasm", "Make sure that the file exists");
        std::fs::create_dir(folder.path().join("xtask")).unwrap();
        std::fs::write(folder.path().join("xtask/Cargo.toml"), "").unwrap();
        check(release, "Build it with `cargo xtask build`");
        check("", "Make sure that the file exists");
    }
}

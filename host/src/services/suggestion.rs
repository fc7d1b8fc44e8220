//! A suggestion for a component file that cannot be read: the command that builds it, if there is one.

use std::io::ErrorKind;
use std::path::Path;

/// Cargo's target folder.
const TARGET: &str = "target";
/// The folder for components in the target folder.
const WASM: &str = "wasm32-wasip2";

/// What an operator can do if the component at `path` cannot be read for this reason.
pub(super) fn suggestion(path: &Path, reason: ErrorKind) -> String {
    let remedy = match (reason, build_command(path)) {
        (ErrorKind::IsADirectory, _) => "Add the name of the .wasm file in it".to_owned(),
        (ErrorKind::PermissionDenied, _) => "Allow the host's user to read it".to_owned(),
        (ErrorKind::NotFound, Some(command)) => format!("Build it with {command}"),
        (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => "Make sure that the file exists".to_owned(),
        _ => "Make sure that it is a readable file".to_owned(),
    };
    format!("{remedy}, or correct `component` in the manifest")
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
            let text = suggestion(&folder.path().join(file), ErrorKind::NotFound);
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

    #[test]
    fn the_suggestion_is_the_remedy_for_the_reason() {
        for (reason, remedy) in [
            (ErrorKind::IsADirectory, "Add the name of the .wasm file"),
            (ErrorKind::PermissionDenied, "Allow the host's user to read it"),
            (ErrorKind::NotADirectory, "Make sure that the file exists"),
            (ErrorKind::InvalidInput, "Make sure that it is a readable file"),
        ] {
            let text = suggestion(Path::new("target/wasm32-wasip2/release/shop.wasm"), reason);
            assert!(text.starts_with(remedy), "{text}");
        }
    }
}

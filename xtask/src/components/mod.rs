//! The components in the checkout, and how to build them with plain cargo or `cargo component`.

pub(crate) mod portable;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo_tool::CARGO_COMPONENT;
use crate::toolchain::{self, TARGET};
use crate::{process, workspace};

/// Every package in this folder is a component, named like its folder.
const SHOP: &str = "components";
/// The same for components that only tests serve.
const FIXTURES: &str = "testkit/fixtures";

/// The first bytes of a WebAssembly component, as opposed to a core module.
const COMPONENT_MAGIC: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// A component's package: its folder, and the name that they share.
struct Component {
    folder: PathBuf,
    name: String,
}

impl Component {
    /// The name of the file that cargo builds from it.
    fn file(&self) -> String {
        format!("{}.wasm", self.name.replace('-', "_"))
    }
}

/// The packages of the shop.
pub(crate) fn shop() -> Result<Vec<String>> {
    Ok(list(SHOP)?.into_iter().map(|component| component.name).collect())
}

/// Builds the shop for release with plain cargo, and first ensures the guest toolchain.
pub(crate) fn build_shop() -> Result<()> {
    build(&list(SHOP)?)
}

/// Builds the shop and then the test components, in separate cargo calls, so that the shop is the same with and without
/// them.
pub(crate) fn build_all() -> Result<()> {
    build_shop()?;
    build(&list(FIXTURES)?)
}

/// Builds the shop with `cargo component`, which must yield the same files.
pub(crate) fn build_shop_with_cargo_component() -> Result<()> {
    let components = list(SHOP)?;
    let mut cargo = toolchain::ensure()?.cargo();
    CARGO_COMPONENT.ensure(&mut cargo)?;
    cargo.args(["component", "build"]);
    process::run(select(&mut cargo, &components))?;
    check_all(&components)
}

fn build(components: &[Component]) -> Result<()> {
    let mut cargo = toolchain::ensure()?.cargo();
    cargo.arg("build");
    process::run(select(&mut cargo, components))?;
    check_all(components)
}

/// Adds arguments to a cargo command that select these components and the release profile.
fn select<'a>(cargo: &'a mut Command, components: &[Component]) -> &'a mut Command {
    cargo.current_dir(workspace::root());
    cargo.args(["--release", "--target", TARGET]);
    cargo.args(components.iter().flat_map(|component| ["-p", &component.name]))
}

/// The packages in this folder, sorted.
fn list(folder: &str) -> Result<Vec<Component>> {
    let path = workspace::root().join(folder);
    let entries = fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
    let packages = entries.flatten().map(|entry| entry.path()).filter(|path| path.join("Cargo.toml").is_file());
    let mut components: Vec<Component> = packages
        .filter_map(|folder| {
            let name = folder.file_name()?.to_str()?.to_owned();
            Some(Component { folder, name })
        })
        .collect();
    components.sort_by(|a, b| a.folder.cmp(&b.folder));
    if components.is_empty() {
        bail!("there are no components in {folder}");
    }
    Ok(components)
}

fn check_all(components: &[Component]) -> Result<()> {
    let release = workspace::target().join(TARGET).join("release");
    components.iter().try_for_each(|component| check(component, &release))
}

/// Fails if cargo did not write a component into this folder.
fn check(component: &Component, folder: &Path) -> Result<()> {
    let file = folder.join(component.file());
    let name = &component.name;
    let bytes = fs::read(&file).with_context(|| format!("{name} was not built: cannot read {}", file.display()))?;
    if !is_component(&bytes) {
        let manifest = component.folder.join("Cargo.toml");
        bail!("{} is not a component; check `crate-type` in {}", file.display(), manifest.display());
    }
    Ok(())
}

fn is_component(bytes: &[u8]) -> bool {
    bytes.starts_with(&COMPONENT_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_module_is_not_a_component() {
        assert!(is_component(b"\0asm\x0d\0\x01\0rest"));
        assert!(!is_component(b"\0asm\x01\0\0\0rest"));
        assert!(!is_component(b""));
    }

    #[test]
    fn the_shop_has_three_services() {
        assert_eq!(shop().unwrap(), ["inventory-service", "product-service", "user-service"]);
    }

    #[test]
    fn the_file_name_of_a_component_is_that_of_cargo() {
        let component = Component { folder: PathBuf::new(), name: "user-service".to_owned() };
        assert_eq!(component.file(), "user_service.wasm");
    }
}

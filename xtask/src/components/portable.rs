//! The shop as components of `wasi:http`, in the two ways that tests serve them. Services are built like this by a switch of
//! the guest library alone: `cargo build --features guest/wasi-http`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Component, SHOP, check, list, select};
use crate::{process, toolchain, workspace};

/// A way to build the shop: the folder of its components in `target/portable`, and the features of the guest library.
const WAYS: [(&str, &str); 2] = [
    // What `wasmtime serve` offers. Configuration comes from the environment.
    ("plain", "guest/wasi-http,guest/wasi-keyvalue-draft"),
    // All that a Spandrel host offers.
    ("proposals", "guest/wasi-config,guest/wasi-keyvalue,guest/wasi-otel"),
];

/// Builds the shop in each way.
pub(crate) fn build() -> Result<()> {
    let shop = list(SHOP)?;
    WAYS.iter().try_for_each(|(name, features)| build_one(&shop, name, features))
}

/// Cargo leaves a component at a path that does not tell its features. So it builds in a folder of its own, where nothing
/// of the last way is left, and each way's components are copied out of it.
fn build_one(shop: &[Component], name: &str, features: &str) -> Result<()> {
    let (build, output) = (folder().join("build"), folder().join(name));
    let release = build.join(toolchain::TARGET).join("release");
    for file in shop.iter().map(Component::file) {
        fs::remove_file(release.join("deps").join(&file)).ok();
        fs::remove_file(release.join(&file)).ok();
    }
    let mut cargo = toolchain::ensure()?.cargo();
    cargo.args(["build", "--features", features, "--target-dir"]).arg(&build);
    process::run(select(&mut cargo, shop))?;
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
    shop.iter().try_for_each(|component| {
        check(component, &release)?;
        copy(&release.join(component.file()), &output.join(component.file()))
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn folder() -> PathBuf {
    workspace::target().join("portable")
}

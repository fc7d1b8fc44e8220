//! The shop as components of `wasi:http`, in the two variants that tests serve. Only a feature of the guest library
//! selects this: `cargo build --features guest/wasi-http`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Component, SHOP, check, list, select};
use crate::{process, toolchain, workspace};

/// A variant of the shop: the folder of its components in `target/portable`, and the features of the guest library.
const VARIANTS: [(&str, &str); 2] = [
    // Everything that `wasmtime serve` offers. Configuration comes from the environment.
    ("plain", "guest/wasi-http,guest/wasi-keyvalue-draft"),
    // Everything that a Spandrel host offers.
    ("proposals", "guest/wasi-config,guest/wasi-keyvalue,guest/wasi-otel"),
];

/// Builds the shop in each variant.
pub(crate) fn build() -> Result<()> {
    let shop = list(SHOP)?;
    VARIANTS.iter().try_for_each(|(name, features)| build_one(&shop, name, features))
}

/// Cargo writes a component to the same path for all features. So this builds in a separate folder, without leftovers
/// of the previous variant, and copies each variant's components out of it.
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

//! Cargo subcommands that the suite needs: used from the PATH if present, otherwise installed once, in a fixed version,
//! into the project's cache.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, workspace};

/// `cargo component build`: the second way to build components that the README documents.
pub(crate) const CARGO_COMPONENT: CargoTool = CargoTool { package: "cargo-component", version: "0.21.1" };

/// Checks licences, sources and duplicate dependencies against `deny.toml`.
pub(crate) const CARGO_DENY: CargoTool = CargoTool { package: "cargo-deny", version: "0.20.2" };

/// A package that installs one program with the package's name.
pub(crate) struct CargoTool {
    package: &'static str,
    version: &'static str,
}

impl CargoTool {
    /// Ensures that `cargo`, when started by `command`, finds this subcommand.
    pub(crate) fn ensure(&self, command: &mut Command) -> Result<()> {
        if workspace::on_path(self.package).is_some() {
            return Ok(());
        }
        let root = workspace::cache()?.join("tools");
        if !root.join("bin").join(self.package).is_file() {
            self.install(&root)?;
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let extended = env::join_paths(env::split_paths(&path).chain([root.join("bin")]));
        command.env("PATH", extended.context("the PATH cannot be extended")?);
        Ok(())
    }

    fn install(&self, root: &PathBuf) -> Result<()> {
        eprintln!(
            "installing {} {} into {}; this happens once and takes minutes",
            self.package,
            self.version,
            root.display()
        );
        let mut cargo = process::cargo();
        cargo.env_remove("CARGO_TARGET_DIR");
        cargo.args(["install", self.package, "--version", self.version, "--locked", "--root"]);
        process::run(cargo.arg(root))
    }
}

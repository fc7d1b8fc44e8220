//! The host: built for release, and started in this process's place.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{components, process, workspace};

const PACKAGE: &str = "spandrel";

/// `cargo xtask build`: components and host.
pub(crate) fn build() -> Result<()> {
    components::build_shop()?;
    process::run(process::cargo().args(["build", "--release", "--package", PACKAGE]).current_dir(workspace::root()))
}

/// `cargo xtask run`: builds, then becomes `spandrel run`, so that Ctrl-C and SIGTERM reach the host itself.
/// It runs in the root of the checkout, where `services.toml` is.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    build()?;
    let mut host = Command::new(workspace::target().join("release").join(PACKAGE));
    process::forget_cargo_run(&mut host);
    host.arg("run").args(for_the_host(arguments)).current_dir(workspace::root());
    let line = process::command_line(&host);
    Err(host.exec()).with_context(|| format!("cannot start `{line}`"))
}

fn for_the_host(arguments: &[String]) -> &[String] {
    match arguments.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => arguments,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_double_dash_is_not_passed_on() {
        let typed = ["--", "--manifest", "other.toml"].map(String::from);
        assert_eq!(for_the_host(&typed), &typed[1..]);
        assert_eq!(for_the_host(&typed[1..]), &typed[1..]);
        assert!(for_the_host(&[]).is_empty());
    }
}

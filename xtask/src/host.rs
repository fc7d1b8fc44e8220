//! Builds the host and the benchmark for release, and replaces this process with one of them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{components, polyglot, process, workspace};

pub(crate) const PACKAGE: &str = "spandrel";
/// The benchmark, which starts the host and its peers itself.
pub(crate) const BENCH: &str = "bench";

/// `cargo xtask build`: components and host.
pub(crate) fn build() -> Result<()> {
    components::build_shop()?;
    process::run(process::cargo().args(["build", "--release", "--package", PACKAGE]).current_dir(workspace::root()))
}

/// `cargo xtask run`: builds, then replaces this process with `spandrel run`, so that Ctrl-C and SIGTERM reach the
/// host. It runs in the root of the checkout, where `services.toml` is.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    build()?;
    let mut host = Command::new(workspace::target().join("release").join(PACKAGE));
    process::forget_cargo_run(&mut host);
    host.arg("run").args(without_dashes(arguments)).current_dir(workspace::root());
    let line = process::command_line(&host);
    Err(host.exec()).with_context(|| format!("cannot start `{line}`"))
}

/// `cargo xtask bench`: builds, then replaces this process with the benchmark.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    components::build_all()?;
    polyglot::build_if_tools_are_available()?;
    // Both in one cargo call, so that they are linked in parallel.
    let packages = ["build", "--release", "--package", PACKAGE, "--package", BENCH];
    process::run(process::cargo().args(packages).current_dir(workspace::root()))?;
    let mut bench = Command::new(workspace::target().join("release").join(BENCH));
    process::forget_cargo_run(&mut bench);
    bench.args(without_dashes(arguments)).current_dir(workspace::root());
    let line = process::command_line(&bench);
    Err(bench.exec()).with_context(|| format!("cannot start `{line}`"))
}

fn without_dashes(arguments: &[String]) -> &[String] {
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
        assert_eq!(without_dashes(&typed), &typed[1..]);
        assert_eq!(without_dashes(&typed[1..]), &typed[1..]);
        assert!(without_dashes(&[]).is_empty());
    }
}

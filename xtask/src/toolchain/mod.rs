//! Ensures that components can be built: finds or installs the target `wasm32-wasip2`.
//!
//! In this order: the current toolchain has it; rustup installs it; the distribution's toolchain has it, or it is built
//! for that (`debian`). If none of these is possible, one message says what to do. If everything is installed, this
//! asks `rustc` one or two questions and returns.

mod debian;
mod plan;
mod targets;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{process, workspace};
use plan::{Plan, Rustup};
pub(crate) use targets::TARGET;
use targets::{TARGETS, has_targets};

/// A toolchain that has the guest target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuestToolchain {
    /// The toolchain that this program was started with.
    Active,
    /// The distribution's toolchain, linked in rustup as `debian`.
    Linked,
    /// The distribution's toolchain, on a machine without rustup.
    Distribution,
}

impl GuestToolchain {
    /// This toolchain's cargo.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Active => return process::cargo(),
            Self::Linked => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", debian::NAME, "cargo"]);
                rustup
            }
            Self::Distribution => {
                let mut cargo = Command::new(debian::CARGO);
                cargo.env("RUSTC", debian::RUSTC);
                cargo
            }
        };
        process::forget_cargo_run(&mut command);
        command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
        command
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Active => "the toolchain in use",
            Self::Linked => "the distribution's toolchain, `cargo +debian`",
            Self::Distribution => "the distribution's toolchain, /usr/bin/cargo",
        }
    }
}

/// Finds a toolchain with the guest target, installing one if possible.
pub(crate) fn ensure() -> Result<GuestToolchain> {
    if active_has_targets() {
        return Ok(GuestToolchain::Active);
    }
    let rustup = rustup_policy();
    let distribution = debian::survey();
    match plan::decide(rustup, distribution) {
        Plan::AddWithRustup => add_with_rustup().or_else(|error| {
            eprintln!("{error:#}");
            follow(plan::decide(Rustup::MustNotInstall, distribution), rustup)
        }),
        plan => follow(plan, rustup),
    }
}

/// `cargo xtask toolchain`: [`ensure`], and a line with the result.
pub(crate) fn show() -> Result<()> {
    let toolchain = ensure()?;
    println!("{}: {}", TARGETS.join(", "), toolchain.describe());
    Ok(())
}

fn follow(plan: Plan, rustup: Rustup) -> Result<GuestToolchain> {
    match plan {
        Plan::AddWithRustup => add_with_rustup(),
        Plan::UseDistribution => linked(rustup),
        Plan::BuildFromDistribution(privilege) => {
            debian::build(privilege)?;
            linked(rustup)
        }
        Plan::Explain(why) => bail!("{why}"),
    }
}

fn add_with_rustup() -> Result<GuestToolchain> {
    eprintln!("adding the {} targets with rustup", TARGETS.join(" and "));
    process::run(Command::new("rustup").args(["target", "add"]).args(TARGETS))?;
    Ok(GuestToolchain::Active)
}

fn linked(rustup: Rustup) -> Result<GuestToolchain> {
    if rustup == Rustup::Absent {
        return Ok(GuestToolchain::Distribution);
    }
    debian::link()?;
    Ok(GuestToolchain::Linked)
}

fn rustup_policy() -> Rustup {
    match (workspace::on_path("rustup"), env::var("RUSTUP_AUTO_INSTALL").as_deref()) {
        (None, _) => Rustup::Absent,
        (Some(_), Ok("0")) => Rustup::MustNotInstall,
        (Some(_), _) => Rustup::MayInstall,
    }
}

/// One call answers for both targets, because their folders are siblings.
fn active_has_targets() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(libdir) = process::output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET])) else {
        return false;
    };
    let libdir = PathBuf::from(libdir.trim());
    let Some(rustlib) = libdir.parent().and_then(Path::parent) else { return false };
    has_targets(rustlib) && (rustlib != Path::new(debian::RUSTLIB) || debian::is_current())
}

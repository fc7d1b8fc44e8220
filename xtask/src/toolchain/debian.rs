//! Installs the guest targets from Debian's packages, for machines on which rustup must not or cannot install them.
//!
//! Debian ships a recent rustc with its source, a wasm linker and a C library for WASI, but no standard library for
//! these targets. So it is built here, once, and installed where that rustc looks for it. The complete folder is moved
//! into place at once, so an interrupted run leaves nothing incomplete. Each folder contains a stamp that names the
//! rustc it was built with; after an upgrade of rustc it is rebuilt.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::plan::{Distribution, Privilege};
use super::targets::{TARGETS, has_targets};
use crate::{process, workspace};

/// The name under which rustup links the distribution's toolchain.
pub(crate) const NAME: &str = "debian";
pub(crate) const CARGO: &str = "/usr/bin/cargo";
pub(crate) const RUSTC: &str = "/usr/bin/rustc";
pub(crate) const RUSTLIB: &str = "/usr/lib/rustlib";

/// rust-web-llvm contains wasm-component-ld and determines the matching release of lld.
const PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "wasi-libc"];
/// A symbolic link that rust-web-llvm installs; it points to the program of the lld package to install.
const LLD_LINK: &str = "/usr/bin/rust-lld";
/// The start files and the C library that every WASI program is linked with, from wasi-libc.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";
const SELF_CONTAINED: [&str; 3] = ["crt1-command.o", "crt1-reactor.o", "libc.a"];
const STAMP: &str = "built-by";

/// The state of the installation on this machine.
pub(crate) fn survey() -> Distribution {
    if has_targets(Path::new(RUSTLIB)) && is_current() {
        return Distribution::Ready;
    }
    if workspace::on_path("apt-get").is_none() || !Path::new("/etc/debian_version").exists() {
        return Distribution::Foreign;
    }
    let answers =
        |command: &mut Command, wanted: &str| process::output(command).is_ok_and(|text| text.trim() == wanted);
    if answers(Command::new("id").arg("-u"), "0") {
        Distribution::Buildable(Privilege::Root)
    } else if answers(Command::new("sudo").args(["-n", "id", "-u"]), "0") {
        Distribution::Buildable(Privilege::Sudo)
    } else {
        Distribution::NeedsRoot
    }
}

/// Whether the targets in [`RUSTLIB`] match the rustc there. Targets without a stamp come from the distribution, whose
/// packages ensure that.
pub(crate) fn is_current() -> bool {
    let stamps = TARGETS.map(|target| fs::read_to_string(target_dir(target).join(STAMP)));
    if stamps.iter().all(Result::is_err) {
        return true;
    }
    let Ok(version) = rustc_version() else { return false };
    let linker = linker_dir(&version).is_some_and(|dir| dir.join("wasm-ld").exists());
    linker && stamps.iter().flatten().all(|stamp| *stamp == version)
}

/// Installs the packages, builds both targets and moves them into place.
pub(crate) fn build(privilege: Privilege) -> Result<()> {
    eprintln!("This Rust toolchain has no {} target: building it from Debian's packages, once.", TARGETS[0]);
    let cache = workspace::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("toolchain.lock"))?;
    lock.lock().context("cannot wait for another run that builds the target")?;
    if survey() == Distribution::Ready {
        return Ok(());
    }
    eprintln!("[1/3] packages: {}, lld", PACKAGES.join(", "));
    install_packages(privilege)?;
    let version = rustc_version()?;
    link_wasm_ld(privilege, &version)?;
    eprintln!("[2/3] the standard library for {}, which takes a minute or two", TARGETS.join(" and "));
    let scratch = cache.join("std-build");
    compile_std(&scratch)?;
    eprintln!("[3/3] installing into {RUSTLIB}");
    for target in TARGETS {
        install_target(privilege, &scratch, target, &version)?;
    }
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))
}

/// Links the toolchain in rustup, unless it is linked already.
pub(crate) fn link() -> Result<()> {
    let rustup = match std::env::var_os("RUSTUP_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => workspace::home()?.join(".rustup"),
    };
    if rustup.join("toolchains").join(NAME).exists() {
        return Ok(());
    }
    process::output(Command::new("rustup").args(["toolchain", "link", NAME, "/usr"])).map(drop)
}

fn install_packages(privilege: Privilege) -> Result<()> {
    if !PACKAGES.iter().all(|package| is_installed(package)) {
        process::run(apt_get(privilege).arg("update"))?;
        process::run(apt_get(privilege).args(INSTALL).args(PACKAGES))?;
    }
    let lld = lld_program()?;
    if !Path::new("/usr/bin").join(lld.replace("lld", "wasm-ld")).exists() {
        process::run(apt_get(privilege).args(INSTALL).arg(&lld))?;
    }
    Ok(())
}

/// `--no-remove`: fail with apt's message rather than remove another Rust installation.
const INSTALL: [&str; 3] = ["install", "--no-install-recommends", "--no-remove"];

fn apt_get(privilege: Privilege) -> Command {
    let mut command = privileged(privilege, "env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=600"]);
    command
}

fn is_installed(package: &str) -> bool {
    process::output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status.trim() == "installed")
}

/// A program and the package that contains it, such as `lld-22`.
fn lld_program() -> Result<String> {
    let program = fs::read_link(LLD_LINK).with_context(|| format!("{LLD_LINK} is not a link to lld"))?;
    let name = program.file_name().and_then(OsStr::to_str).with_context(|| format!("{LLD_LINK} has no target"))?;
    Ok(name.to_owned())
}

/// Links `wasm-ld` where rustc looks for linkers, so that no PATH has to change.
fn link_wasm_ld(privilege: Privilege, version: &str) -> Result<()> {
    let dir = linker_dir(version).context("rustc does not say for which host it was built")?;
    let program = format!("/usr/bin/{}", lld_program()?.replace("lld", "wasm-ld"));
    process::run(privileged(privilege, "mkdir").arg("-p").arg(&dir))?;
    process::run(privileged(privilege, "ln").arg("-sfn").arg(program).arg(dir.join("wasm-ld")))
}

fn linker_dir(version: &str) -> Option<PathBuf> {
    let host = version.lines().find_map(|line| line.strip_prefix("host: "))?;
    Some(Path::new(RUSTLIB).join(host).join("bin"))
}

/// Builds an empty library together with the standard library, in an empty folder: two builds of std in one folder
/// would be mixed up. Bitcode is embedded because components are built with LTO.
fn compile_std(scratch: &Path) -> Result<()> {
    if scratch.exists() {
        fs::remove_dir_all(scratch).with_context(|| format!("cannot empty {}", scratch.display()))?;
    }
    fs::create_dir_all(scratch.join("src"))?;
    fs::write(scratch.join("Cargo.toml"), "[package]\nname = \"empty\"\nedition = \"2021\"\n\n[workspace]\n")?;
    fs::write(scratch.join("src/lib.rs"), "")?;
    let mut cargo = Command::new(CARGO);
    process::forget_cargo_run(&mut cargo);
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    cargo.env("RUSTC", RUSTC).env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Cembed-bitcode=yes");
    cargo.env("CARGO_TARGET_DIR", scratch.join("target")).current_dir(scratch);
    cargo.args(["build", "--release", "-Zbuild-std=std,panic_abort"]);
    process::run(cargo.args(TARGETS.map(|target| format!("--target={target}"))))
}

/// Assembles the target's folder in the scratch folder, then moves it into place in one step.
fn install_target(privilege: Privilege, scratch: &Path, target: &str, version: &str) -> Result<()> {
    let staged = scratch.join("staged").join(target);
    let lib = staged.join("lib");
    fs::create_dir_all(lib.join("self-contained"))?;
    for file in fs::read_dir(scratch.join("target").join(target).join("release/deps"))? {
        let file = file?.path();
        let name = file.file_name().unwrap_or_default();
        if file.extension() == Some(OsStr::new("rlib")) && !name.to_string_lossy().starts_with("libempty-") {
            fs::copy(&file, lib.join(name))?;
        }
    }
    for name in SELF_CONTAINED {
        let source = Path::new(WASI_LIBC).join(name);
        fs::copy(&source, lib.join("self-contained").join(name))
            .with_context(|| format!("cannot copy {}", source.display()))?;
    }
    fs::write(staged.join(STAMP), version)?;
    let (place, incoming) = (target_dir(target), target_dir(&format!(".{target}-incoming")));
    process::run(privileged(privilege, "rm").arg("-rf").arg(&incoming).arg(&place))?;
    process::run(privileged(privilege, "cp").arg("-r").arg(&staged).arg(&incoming))?;
    process::run(privileged(privilege, "mv").arg("-T").arg(&incoming).arg(&place))
}

fn target_dir(target: &str) -> PathBuf {
    Path::new(RUSTLIB).join(target)
}

fn rustc_version() -> Result<String> {
    let mut rustc = Command::new(RUSTC);
    process::forget_cargo_run(&mut rustc);
    process::output(rustc.arg("-vV"))
}

fn privileged(privilege: Privilege, program: &str) -> Command {
    match privilege {
        Privilege::Root => Command::new(program),
        Privilege::Sudo => {
            let mut command = Command::new("sudo");
            command.args(["-n", program]);
            command
        }
    }
}

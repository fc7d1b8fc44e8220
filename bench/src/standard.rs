//! Standard components, with a server span for each request, against `wasmtime serve`, which does not trace.
//!
//! Both serve the same files, with an instance for each request, and with instances that are reused for the same number
//! of requests. A lean component is measured with the defaults, against those of `wasmtime serve`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::arguments::Effort;
use crate::contender::{Contender, Plan, Process, free_addresses};
use crate::folders::target;
use crate::host;
use crate::load::Target;
use crate::report::{CPU, Goal, P50, THROUGHPUT, USER_CPU, compare, heading, table};
use crate::turns::take;

/// The number of requests of a reused instance: the default of `wasmtime serve` for 0.3 components.
const REUSE: u32 = 128;

/// The number of concurrent requests of an instance: the default of `wasmtime serve` for 0.3 components.
const CONCURRENCY: u32 = 16;

/// A component and the reuse of its instances.
#[derive(Clone, Copy)]
struct Setting {
    /// The names of the two contenders.
    names: [&'static str; 2],
    /// The package of the component.
    package: &'static str,
    /// The number of requests of an instance; `None` means one instance for each request.
    reuse: Option<u32>,
    /// The number of concurrent requests of an instance.
    concurrency: u32,
}

const SETTINGS: [Setting; 4] = [
    Setting {
        names: ["spandrel, 0.2, an instance for each request", "wasmtime serve, 0.2, an instance for each request"],
        package: "standard-p2",
        reuse: None,
        concurrency: 1,
    },
    Setting {
        names: ["spandrel, 0.2, reused", "wasmtime serve, 0.2, reused"],
        package: "standard-p2",
        reuse: Some(REUSE),
        concurrency: 1,
    },
    Setting {
        names: ["spandrel, 0.3, reused, 16 at a time", "wasmtime serve, 0.3, reused, 16 at a time"],
        package: "standard-p3",
        reuse: Some(REUSE),
        concurrency: CONCURRENCY,
    },
    Setting {
        names: ["spandrel, 0.3, reused, one at a time", "wasmtime serve, 0.3, reused, one at a time"],
        package: "standard-p3",
        reuse: Some(REUSE),
        concurrency: 1,
    },
];

/// The positions of the contenders that run `wasmtime serve` with its defaults, for 0.2 and for 0.3.
const DEFAULTS: [usize; 2] = [1, 5];

pub(crate) fn run(effort: Effort) -> Result<()> {
    heading("GET /hello, one standard component");
    let program = target()?.join("reference/wasmtime");
    if !program.is_file() {
        println!("SKIPPED: `wasmtime` is not installed; `cargo xtask test polyglot` installs it");
        return Ok(());
    }
    let mut plans = Vec::new();
    for setting in SETTINGS {
        let program = program.clone();
        plans.push(Plan::new(setting.names[0], move || spandrel(setting)));
        plans.push(Plan::new(setting.names[1], move || wasmtime(&program, setting)));
    }
    plans.push(Plan::new("spandrel, lean, GET /health", lean));
    let standings = take(&plans, effort)?;
    table(&standings);
    let (lean, standard) = standings.split_last().context("a lean contender")?;
    for default in DEFAULTS.iter().filter_map(|position| standard.get(*position)) {
        compare(lean, default, THROUGHPUT, Goal::AtLeast(3.0));
    }
    for pair in standard.chunks_exact(2) {
        compare(&pair[0], &pair[1], THROUGHPUT, Goal::AtLeast(1.0));
        compare(&pair[0], &pair[1], P50, Goal::None);
        compare(&pair[0], &pair[1], CPU, Goal::None);
        compare(&pair[0], &pair[1], USER_CPU, Goal::None);
    }
    Ok(())
}

fn spandrel(setting: Setting) -> Result<Contender> {
    let [address] = free_addresses()?;
    let folder = tempfile::tempdir()?;
    let manifest = manifest(setting.package, address, &isolation(setting))?;
    let command = host::command(&target()?, "run", &folder, &manifest)?;
    start(Target::hello(address), command, Some(folder))
}

/// A lean component with the defaults of the host.
fn lean() -> Result<Contender> {
    let [address] = free_addresses()?;
    let folder = tempfile::tempdir()?;
    let command = host::command(&target()?, "run", &folder, &manifest("oddities", address, "")?)?;
    start(Target::health(address), command, Some(folder))
}

fn isolation(Setting { reuse, concurrency, .. }: Setting) -> String {
    reuse.map_or_else(
        || "isolation = \"request\"".to_owned(),
        |reuse| {
            format!(
                "isolation = \"instance\"\nrequests_per_instance = {reuse}\nconcurrency_per_instance = {concurrency}"
            )
        },
    )
}

/// The manifest of a host with one service.
fn manifest(package: &str, address: SocketAddr, keys: &str) -> Result<String> {
    let component = host::component(&target()?, package);
    Ok(format!(
        "[state]\nbackend = \"memory\"\n[[service]]\nname = \"standard\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\n\
         listen = \"{address}\"\n{keys}\n",
        component.display()
    ))
}

fn wasmtime(program: &Path, setting: Setting) -> Result<Contender> {
    let [address] = free_addresses()?;
    let mut command = Command::new(program);
    command.args(["serve", "-S", "cli,p3", "-W", "component-model-async", "--addr", &address.to_string()]);
    if let Some(reuse) = setting.reuse {
        command.arg(format!("--max-instance-reuse-count={reuse}"));
        command.arg(format!("--max-instance-concurrent-reuse-count={}", setting.concurrency));
    }
    command.arg(host::component(&target()?, setting.package)).stderr(Stdio::null());
    start(Target::hello(address), command, None)
}

/// Starts one process. Its folder, if any, is removed when it responds.
fn start(target: Target, command: Command, folder: Option<TempDir>) -> Result<Contender> {
    let address = target.address;
    let contender = Contender::start(target, vec![Process { command, address }]);
    drop(folder);
    contender
}

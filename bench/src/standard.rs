//! Standard components, with a server span each, against `wasmtime serve`, which traces nothing.
//!
//! Both serve the same files, once with an instance for each request and once with instances that are reused equally
//! often.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use tempfile::TempDir;

use crate::arguments::Effort;
use crate::contender::{Contender, Plan, Process, free_addresses};
use crate::folders::target;
use crate::host;
use crate::load::Target;
use crate::report::{CPU, Goal, P50, THROUGHPUT, compare, heading, table};
use crate::turns::take;

/// How many requests an instance serves that is reused: what `wasmtime serve` has for components of 0.3.
const REUSE: u32 = 128;

/// A component and how its instances are used.
#[derive(Clone, Copy)]
struct Setting {
    /// Names of the two contenders.
    names: [&'static str; 2],
    /// Its package.
    package: &'static str,
    /// How many requests an instance serves; none means one instance for each request.
    reuse: Option<u32>,
}

const SETTINGS: [Setting; 3] = [
    Setting {
        names: ["spandrel, 0.2, an instance for each request", "wasmtime serve, 0.2, an instance for each request"],
        package: "standard-p2",
        reuse: None,
    },
    Setting {
        names: ["spandrel, 0.2, reused", "wasmtime serve, 0.2, reused"],
        package: "standard-p2",
        reuse: Some(REUSE),
    },
    Setting {
        names: ["spandrel, 0.3, reused", "wasmtime serve, 0.3, reused"],
        package: "standard-p3",
        reuse: Some(REUSE),
    },
];

pub(crate) fn run(effort: Effort) -> Result<()> {
    heading("GET /hello, one standard component");
    let program = target()?.join("reference/wasmtime");
    if !program.is_file() {
        println!("SKIPPED: there is no `wasmtime` to compare with; `cargo xtask test polyglot` fetches it");
        return Ok(());
    }
    let mut plans = Vec::new();
    for setting in SETTINGS {
        let program = program.clone();
        plans.push(Plan::new(setting.names[0], move || spandrel(setting)));
        plans.push(Plan::new(setting.names[1], move || wasmtime(&program, setting)));
    }
    let standings = take(&plans, effort)?;
    table(&standings);
    for pair in standings.chunks_exact(2) {
        compare(&pair[0], &pair[1], THROUGHPUT, Goal::AtLeast(1.0));
        compare(&pair[0], &pair[1], P50, Goal::Open);
        compare(&pair[0], &pair[1], CPU, Goal::Open);
    }
    Ok(())
}

fn spandrel(setting: Setting) -> Result<Contender> {
    let [address] = free_addresses()?;
    let folder = tempfile::tempdir()?;
    let command = host::command(&target()?, "run", &folder, &manifest(setting, address)?)?;
    start(address, command, Some(folder))
}

fn manifest(Setting { package, reuse, .. }: Setting, address: SocketAddr) -> Result<String> {
    let isolation = reuse.map_or_else(
        || "isolation = \"request\"".to_owned(),
        |reuse| format!("isolation = \"instance\"\nrequests_per_instance = {reuse}"),
    );
    let component = host::component(&target()?, package);
    Ok(format!(
        "[state]\nbackend = \"memory\"\n[[service]]\nname = \"standard\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\n\
         listen = \"{address}\"\n{isolation}\n",
        component.display()
    ))
}

fn wasmtime(program: &Path, setting: Setting) -> Result<Contender> {
    let [address] = free_addresses()?;
    let mut command = Command::new(program);
    command.args(["serve", "-S", "cli,p3", "-W", "component-model-async", "--addr", &address.to_string()]);
    if let Some(reuse) = setting.reuse {
        command.arg(format!("--max-instance-reuse-count={reuse}"));
    }
    command.arg(host::component(&target()?, setting.package)).stderr(Stdio::null());
    start(address, command, None)
}

/// Starts one process. Its folder, if it has one, is needed no longer once it answers.
fn start(address: SocketAddr, command: Command, folder: Option<TempDir>) -> Result<Contender> {
    let contender = Contender::start(Target::hello(address), vec![Process { command, address }]);
    drop(folder);
    contender
}

//! The memory that idle instances and further services take, by kind of component.
//!
//! A host with one service is asked by so many clients at once that it makes an instance for each; a host with many
//! services of one component is asked for nothing. What is told is the growth of the resident memory for each instance
//! and each service.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::contender::{Contender, Process, free_addresses};
use crate::host;
use crate::load::{self, Target};
use crate::report::heading;
use crate::target;

/// How many clients ask at once. Each request sleeps for long enough that all of them meet.
const CLIENTS: usize = 100;
/// How many services there are beside the first.
const SERVICES: usize = 50;

/// A kind of component, and what of it is asked for.
struct Kind {
    name: &'static str,
    /// Its package.
    package: &'static str,
    /// A path that answers at once.
    ready: (&'static str, &'static str),
    /// A path that sleeps.
    sleeps: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind { name: "lean", package: "oddities", ready: ("/nap/0", "awake"), sleeps: "/nap/1000" },
    Kind {
        name: "wasi:http 0.2, reused",
        package: "standard-p2",
        ready: ("/hello", "hello"),
        sleeps: "/sleep?ms=1000",
    },
    Kind { name: "wasi:http 0.3", package: "standard-p3", ready: ("/hello", "hello"), sleeps: "/sleep?ms=1000" },
];

pub(crate) fn run() -> Result<()> {
    heading("Memory of the host, resident");
    println!("| kind | one service | each further service of the component | each further idle instance |");
    println!("|---|---:|---:|---:|");
    for kind in &KINDS {
        let (alone, instance) = of_instances(kind)?;
        let service = of_services(kind)?.saturating_sub(alone) / SERVICES as u64;
        println!("| {} | {} KiB | {service} KiB | {instance} KiB |", kind.name, alone);
    }
    Ok(())
}

/// The memory of a host with one service that was asked once, and the growth for each instance more, in KiB.
fn of_instances(kind: &Kind) -> Result<(u64, u64)> {
    let [address, console] = free_addresses()?;
    let contender = start(kind, &[address], console)?;
    let (alone, few) = (resident(&contender)?, instances(console)?);
    let target = Target { address, path: kind.sleeps, expected: "" };
    load::run(&target, CLIENTS, std::time::Duration::from_millis(100))?;
    let (grown, many) = (resident(&contender)?, instances(console)?);
    contender.stop()?;
    Ok((alone, grown.saturating_sub(alone) / many.saturating_sub(few).max(1)))
}

/// The memory of a host with so many services more, of which the first was asked once, in KiB.
fn of_services(kind: &Kind) -> Result<u64> {
    let addresses: [SocketAddr; SERVICES + 2] = free_addresses()?;
    let [console, services @ ..] = &addresses;
    let contender = start(kind, services, *console)?;
    let grown = resident(&contender)?;
    contender.stop()?;
    Ok(grown)
}

fn start(kind: &Kind, services: &[SocketAddr], console: SocketAddr) -> Result<Contender> {
    let component = host::component(&target()?, kind.package);
    let mut manifest = format!("[console]\nlisten = \"{console}\"\n[state]\nbackend = \"memory\"\n");
    for (number, address) in services.iter().enumerate() {
        write!(
            manifest,
            "[[service]]\nname = \"service-{number}\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\nlisten = \"{address}\"\n\
             isolation = \"instance\"\n",
            component.display()
        )?;
    }
    let folder = tempfile::tempdir()?;
    let command = host::command(&target()?, "run", &folder, &manifest)?;
    let address = *services.first().context("one service at least")?;
    let (path, expected) = kind.ready;
    Contender::start(Target { address, path, expected }, vec![Process { command, address }])
}

/// Instances that exist, as the console tells.
fn instances(console: SocketAddr) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let page = runtime.block_on(async { reqwest::get(format!("http://{console}/metrics")).await?.text().await })?;
    let sample = page.lines().find_map(|line| line.strip_prefix("spandrel_host_instances"));
    let value = sample.and_then(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(value.context("the console tells how many instances there are")? as u64)
}

/// Resident memory of a contender's processes, in KiB.
fn resident(contender: &Contender) -> Result<u64> {
    let mut sum = 0;
    for process in contender.processes() {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        sum += line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
    }
    Ok(sum)
}

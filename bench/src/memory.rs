//! The memory that instances and further services take, by kind of component.
//!
//! A host with one service is asked by so many clients at once that it makes an instance for each; a host with many
//! services of one component is asked for nothing. What is told is the growth of the resident memory for each instance
//! and each service. Every component is compiled before that, so that no figure contains what compiling leaves behind.
//!
//! An idle instance has served a request and waits for the next one. A component that serves one request in an instance
//! leaves none that is idle: its instances are counted while they wait for the rest of their requests.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::contender::{Contender, Process, free_addresses};
use crate::folders::target;
use crate::held::{HeldRequests, SilentNeighbour};
use crate::host;
use crate::load::{self, Target};
use crate::report::heading;

/// How many clients ask at once. Each request takes for long enough that all of them meet.
const CLIENTS: usize = 100;
/// How many services there are beside the first.
const SERVICES: usize = 50;
/// Growth over fewer instances than that says nothing of one.
const FEWEST: u64 = 20;

/// A kind of component, and what of it is asked for.
struct Kind {
    name: &'static str,
    component: Component,
    /// What stands in its `[[service]]`. `NEIGHBOUR` is an address where nobody answers.
    keys: &'static str,
    /// A path that answers at once.
    ready: (&'static str, &'static str),
    burst: Burst,
}

/// Where the component is.
enum Component {
    /// Built of this package.
    Package(&'static str),
    /// The file of this name, of the polyglot example: only there where its tools are.
    Polyglot(&'static str),
}

/// What makes many instances at a time.
enum Burst {
    /// A path that takes a while. The instances are idle afterwards.
    Slow(&'static str),
    /// A path that reads this body, the end of which is held back. The instances are at work.
    HeldBack(&'static str, &'static str),
}

const REUSED: &str = "isolation = \"instance\"";

const KINDS: [Kind; 5] = [
    Kind {
        name: "lean, in Rust",
        component: Component::Package("oddities"),
        keys: REUSED,
        ready: ("/nap/0", "awake"),
        burst: Burst::Slow("/nap/1000"),
    },
    Kind {
        name: "wasi:http 0.2, in Rust, reused",
        component: Component::Package("standard-p2"),
        keys: REUSED,
        ready: ("/hello", "hello"),
        burst: Burst::Slow("/sleep?ms=1000"),
    },
    Kind {
        name: "wasi:http 0.3, in Rust",
        component: Component::Package("standard-p3"),
        keys: REUSED,
        ready: ("/hello", "hello"),
        burst: Burst::Slow("/sleep?ms=1000"),
    },
    Kind {
        name: "wasi:http 0.3, in Python",
        component: Component::Polyglot("product_service.wasm"),
        keys: "[service.env]\nPRICING_SERVICE_URL = \"http://NEIGHBOUR\"\nINVENTORY_SERVICE_URL = \"http://NEIGHBOUR\"\n\
               [service.outbound]\nallow = [\"http://NEIGHBOUR\"]\n[service.limits]\nmemory = \"256MiB\"",
        ready: ("/health", "healthy"),
        burst: Burst::Slow("/products/recommend"),
    },
    Kind {
        name: "wasi:http 0.2, in JavaScript",
        component: Component::Polyglot("pricing_service.wasm"),
        keys: "[service.limits]\nmemory = \"256MiB\"",
        ready: ("/health", "healthy"),
        burst: Burst::HeldBack("/prices", r#"{"user_score":100,"products":[{"id":1,"price":10}]}"#),
    },
];

pub(crate) fn run() -> Result<()> {
    heading("Memory of the host, resident");
    println!("| kind | one service | each further service of the component | each further instance |");
    println!("|---|---:|---:|---:|");
    let neighbour = SilentNeighbour::start()?;
    let (mut missing, target) = (Vec::new(), target()?);
    for kind in &KINDS {
        let component = kind.component.file(&target);
        if !component.is_file() {
            missing.push(format!("{}: SKIPPED, as {} is not there", kind.name, component.display()));
            continue;
        }
        let measured = Measured { kind, component, neighbour: neighbour.address() };
        measured.compile()?;
        let (alone, instance) = measured.of_instances()?;
        let service = measured.of_services()?.saturating_sub(alone) / SERVICES as u64;
        println!("| {} | {alone} KiB | {service} KiB | {instance} KiB{} |", kind.name, kind.burst.remark());
    }
    missing.iter().for_each(|line| println!("\n{line}; `cargo xtask polyglot` builds it"));
    Ok(())
}

impl Component {
    fn file(&self, target: &Path) -> PathBuf {
        match self {
            Component::Package(package) => host::component(target, package),
            Component::Polyglot(name) => target.join("polyglot").join(name),
        }
    }
}

impl Burst {
    /// What is to be said of its instances.
    fn remark(&self) -> &'static str {
        match self {
            Burst::Slow(_) => ", idle",
            Burst::HeldBack(..) => ", at work: none is ever idle",
        }
    }
}

/// A kind whose component is there.
struct Measured<'a> {
    kind: &'a Kind,
    component: PathBuf,
    neighbour: SocketAddr,
}

impl Measured<'_> {
    /// Compiles the component, so that hosts take it from the cache.
    fn compile(&self) -> Result<()> {
        let [address, console] = free_addresses()?;
        let folder = tempfile::tempdir()?;
        let mut command = host::command(&target()?, "check", &folder, &self.manifest(&[address], console)?)?;
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "`spandrel check` of {} ended with {status}", self.component.display());
        Ok(())
    }

    /// The memory of a host with one service that was asked once, and the growth for each instance more, in KiB.
    fn of_instances(&self) -> Result<(u64, u64)> {
        let [address, console] = free_addresses()?;
        let contender = self.start(&[address], console)?;
        let (alone, few) = (resident(&contender)?, instances(console)?);
        let (grown, many) = match self.kind.burst {
            Burst::Slow(path) => {
                load::run(&Target { address, path, expected: "" }, CLIENTS, Duration::from_millis(100))?;
                (resident(&contender)?, instances(console)?)
            }
            Burst::HeldBack(path, body) => {
                let held = HeldRequests::send(address, path, body, CLIENTS)?;
                held.until(|| Ok(instances(console)? >= few + CLIENTS as u64))?;
                let measured = (resident(&contender)?, instances(console)?);
                held.finish()?;
                measured
            }
        };
        contender.stop()?;
        let made = many.saturating_sub(few);
        ensure!(made >= FEWEST, "{}: only {made} instances were made", self.kind.name);
        Ok((alone, grown.saturating_sub(alone) / made))
    }

    /// The memory of a host with so many services more, of which the first was asked once, in KiB.
    fn of_services(&self) -> Result<u64> {
        let addresses: [SocketAddr; SERVICES + 2] = free_addresses()?;
        let [console, services @ ..] = &addresses;
        let contender = self.start(services, *console)?;
        let grown = resident(&contender)?;
        contender.stop()?;
        Ok(grown)
    }

    fn start(&self, services: &[SocketAddr], console: SocketAddr) -> Result<Contender> {
        let folder = tempfile::tempdir()?;
        let command = host::command(&target()?, "run", &folder, &self.manifest(services, console)?)?;
        let address = *services.first().context("one service at least")?;
        let (path, expected) = self.kind.ready;
        Contender::start(Target { address, path, expected }, vec![Process { command, address }])
    }

    fn manifest(&self, services: &[SocketAddr], console: SocketAddr) -> Result<String> {
        let mut manifest = format!("[console]\nlisten = \"{console}\"\n[state]\nbackend = \"memory\"\n");
        let keys = self.kind.keys.replace("NEIGHBOUR", &self.neighbour.to_string());
        for (number, address) in services.iter().enumerate() {
            write!(
                manifest,
                "[[service]]\nname = \"service-{number}\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\n\
                 listen = \"{address}\"\n{keys}\n",
                self.component.display()
            )?;
        }
        Ok(manifest)
    }
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

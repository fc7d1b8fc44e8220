//! The memory of instances and of further services, for each kind of component.
//!
//! Many clients send concurrent requests to a host with one service, so that it creates an instance for each. Another
//! host has many services with the same component and gets no requests. The report contains the growth of resident
//! memory for each instance and each service. All components are compiled beforehand, so that the figures do not
//! contain memory of the compiler.
//!
//! An idle instance has served a request and waits for the next one. A component with one request per instance has no
//! idle instances: its instances are measured while they wait for the rest of their request bodies.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::contender::{Contender, Process, free_addresses};
use crate::folders::target;
use crate::held::{HeldRequests, SilentServer};
use crate::host;
use crate::load::{self, Target};
use crate::report::heading;

/// The number of concurrent clients. Each request takes long enough that all requests overlap.
const CLIENTS: usize = 100;
/// The number of services in addition to the first.
const SERVICES: usize = 50;
/// The fewest instances for a meaningful average.
const FEWEST: u64 = 20;

/// A kind of component, and its requests.
struct Kind {
    name: &'static str,
    component: Component,
    /// Further keys of its `[[service]]`. `SILENT_SERVER` stands for the address of the silent server.
    keys: &'static str,
    /// A path that responds immediately, and a text in the response.
    ready: (&'static str, &'static str),
    burst: Burst,
}

/// The file of a component.
enum Component {
    /// The component of this package.
    Package(&'static str),
    /// The file with this name of the polyglot example. It exists only if the tools of the example are available.
    Polyglot(&'static str),
}

/// Requests that require many instances at the same time.
enum Burst {
    /// A path with a slow response. The instances are idle afterwards.
    Slow(&'static str),
    /// A path that reads this body, whose end is sent later. The instances are busy meanwhile.
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
        keys: "[service.env]\nPRICING_SERVICE_URL = \"http://SILENT_SERVER\"\nINVENTORY_SERVICE_URL = \"http://SILENT_SERVER\"\n\
               [service.outbound]\nallow = [\"http://SILENT_SERVER\"]\n[service.limits]\nmemory = \"256MiB\"",
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
    let server = SilentServer::start()?;
    let (mut missing, target) = (Vec::new(), target()?);
    for kind in &KINDS {
        let component = kind.component.file(&target);
        if !component.is_file() {
            missing.push(format!("{}: SKIPPED: {} does not exist", kind.name, component.display()));
            continue;
        }
        let measured = Measured { kind, component, silent_server: server.address() };
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
    /// A remark on the state of the measured instances.
    fn remark(&self) -> &'static str {
        match self {
            Burst::Slow(_) => ", idle",
            Burst::HeldBack(..) => ", serving: instances are not reused",
        }
    }
}

/// A kind whose component exists.
struct Measured<'a> {
    kind: &'a Kind,
    component: PathBuf,
    silent_server: SocketAddr,
}

impl Measured<'_> {
    /// Compiles the component, so that the hosts read it from the cache.
    fn compile(&self) -> Result<()> {
        let [address, console] = free_addresses()?;
        let folder = tempfile::tempdir()?;
        let mut command = host::command(&target()?, "check", &folder, &self.manifest(&[address], console)?)?;
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "`spandrel check` of {} ended with {status}", self.component.display());
        Ok(())
    }

    /// The memory of a host with one service after one request, and the growth for each further instance, in KiB.
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
        ensure!(made >= FEWEST, "{}: only {made} instances were created", self.kind.name);
        Ok((alone, grown.saturating_sub(alone) / made))
    }

    /// The memory of a host with [`SERVICES`] further services after one request to the first, in KiB.
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
        let address = *services.first().context("there is no service")?;
        let (path, expected) = self.kind.ready;
        Contender::start(Target { address, path, expected }, vec![Process { command, address }])
    }

    fn manifest(&self, services: &[SocketAddr], console: SocketAddr) -> Result<String> {
        let mut manifest = format!("[console]\nlisten = \"{console}\"\n[state]\nbackend = \"memory\"\n");
        let keys = self.kind.keys.replace("SILENT_SERVER", &self.silent_server.to_string());
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

/// The number of instances, from the console's metrics.
fn instances(console: SocketAddr) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let page = runtime.block_on(async { reqwest::get(format!("http://{console}/metrics")).await?.text().await })?;
    let sample = page.lines().find_map(|line| line.strip_prefix("spandrel_host_instances"));
    let value = sample.and_then(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(value.context("the console reports no number of instances")? as u64)
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

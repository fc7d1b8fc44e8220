//! A contender: its processes, its address, and the collector that it exports to.
//!
//! A [`Plan`] starts a contender. A [`Contender`] represents it from a start to the next stop.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::collector::Collector;
use crate::load::{self, Served, Target};

/// The longest time from a start until the contender responds.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The longest time of a stop, including the export of the remaining spans.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// The size of the span queue of all contenders: one that drops spans would appear faster.
const QUEUE: &str = "65536";

/// Starts a contender, for each of its turns.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    start: Box<dyn Fn() -> Result<Contender>>,
}

impl Plan {
    pub(crate) fn new(name: &'static str, start: impl Fn() -> Result<Contender> + 'static) -> Plan {
        Plan { name, start: Box::new(start) }
    }

    pub(crate) fn start(&self) -> Result<Contender> {
        (self.start)()
    }
}

/// A process to start, and the address on which it will listen.
pub(crate) struct Process {
    pub(crate) command: Command,
    pub(crate) address: SocketAddr,
}

/// Totals of a contender from its start to its stop, including the warm-up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// The number of responses.
    pub(crate) requests: u64,
    /// The number of spans that its collector has received.
    pub(crate) spans: u64,
}

/// A running contender.
pub(crate) struct Contender {
    target: Target,
    collector: Collector,
    children: Vec<Child>,
    /// The number of responses since its start.
    answered: u64,
}

impl Contender {
    /// Starts the processes, told to export to a collector of their own, and waits until the target answers.
    pub(crate) fn start(target: Target, processes: Vec<Process>) -> Result<Contender> {
        let mut contender = Contender { target, collector: Collector::start()?, children: Vec::new(), answered: 0 };
        let addresses: Vec<SocketAddr> = processes.iter().map(|process| process.address).collect();
        for process in processes {
            contender.spawn(process.command)?;
        }
        contender.wait(&addresses)?;
        Ok(contender)
    }

    fn spawn(&mut self, mut command: Command) -> Result<()> {
        let given: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        let defaults = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.collector.endpoint()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE.to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "1000".to_owned()),
        ];
        for (variable, value) in defaults.iter().filter(|(variable, _)| given.iter().all(|known| known != variable)) {
            command.env(variable, value);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        self.children.push(child.with_context(|| format!("start {:?}", command.get_program()))?);
        Ok(())
    }

    /// Waits until all processes listen, then sends a request: an incomplete chain would give a wrong response and
    /// export spans of it.
    fn wait(&mut self, addresses: &[SocketAddr]) -> Result<()> {
        let until = Instant::now() + START_LIMIT;
        while !addresses.iter().all(listens) || load::once(&self.target)?.is_none() {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("the process ended during its start ({status})");
                }
            }
            if Instant::now() > until {
                bail!("the contender does not respond at {}", self.target.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.answered += 1;
        Ok(())
    }

    /// Sends requests over `connections` for `time`.
    pub(crate) fn serve(&mut self, connections: usize, time: Duration) -> Result<Served> {
        let served = load::run(&self.target, connections, time)?;
        self.answered += served.requests();
        Ok(served)
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Stops the contender with SIGTERM, so that it exports its remaining spans, which are counted.
    pub(crate) fn stop(mut self) -> Result<Totals> {
        for child in &self.children {
            Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().context("kill")?;
        }
        let until = Instant::now() + STOP_LIMIT;
        while Instant::now() < until && self.children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Totals { requests: self.answered, spans: self.collector.spans() })
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn listens(address: &SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Different addresses that are free at the moment.
///
/// Their ports are below the range of ephemeral ports: the load's own connections could otherwise occupy one before its
/// contender does.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    let candidates = std::iter::repeat_with(|| {
        let next = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id();
        PORTS.start + (next % PORTS.len() as u32) as u16
    });
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let free = candidates.take(PORTS.len()).map(address).filter(|address| TcpListener::bind(address).is_ok());
    let addresses: Vec<SocketAddr> = free.take(N).collect();
    addresses.try_into().map_err(|_| anyhow::anyhow!("not enough free ports"))
}

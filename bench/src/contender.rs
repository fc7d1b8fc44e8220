//! One of those who are compared: its processes, where it answers, and the collector that it exports to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::collector::Collector;
use crate::load::{self, Target};

/// How long a contender may take until it answers.
const START: Duration = Duration::from_secs(60);
/// How long it may take to stop and to send its last spans.
const STOP: Duration = Duration::from_secs(15);
/// Room for spans that wait for export, the same for all: whoever drops spans would look fast.
const QUEUE: &str = "65536";

/// A contender that runs.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) collector: Collector,
    children: Vec<Child>,
}

impl Contender {
    /// Starts the commands, told to export to a collector of their own, and waits until the target answers.
    pub(crate) fn start(name: &str, target: Target, commands: Vec<Command>) -> Result<Contender> {
        let collector = Collector::start()?;
        let mut contender = Contender { name: name.to_owned(), target, collector, children: Vec::new() };
        for command in commands {
            contender.spawn(command)?;
        }
        contender.wait()?;
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

    fn wait(&mut self) -> Result<()> {
        let until = Instant::now() + START;
        while load::once(&self.target).with_context(|| self.name.clone())?.is_none() {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("{} ended at its start ({status})", self.name);
                }
            }
            if Instant::now() > until {
                bail!("{} does not answer at {}", self.name, self.target.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Stops it, as a user would, and gives the number of spans that its collector has received in the end.
    pub(crate) fn stop(mut self) -> Result<u64> {
        for child in &self.children {
            Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().context("kill")?;
        }
        let until = Instant::now() + STOP;
        while Instant::now() < until && self.children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self.collector.spans())
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

/// Addresses that were free a moment ago, all different.
///
/// They are below the ports that a system gives to clients: the load's own connections would take one now and then
/// before its contender does.
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

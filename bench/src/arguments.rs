//! What can be asked for on the command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use crate::native;

/// Measures the host against its peers. Without names every scenario runs.
#[derive(Debug, Parser)]
#[command(name = "bench", subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// What to measure.
    scenarios: Vec<Scenario>,
    /// Seconds for which each contender is measured in each round, after a second of warm-up.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections that send one request after the other.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// The target folder of another checkout of the host, built for release: its host and its components take part in
    /// `inventory` and `chain`.
    #[arg(long, value_name = "TARGET")]
    other: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

impl Arguments {
    pub(crate) fn wants(&self, scenario: Scenario) -> bool {
        self.scenarios.is_empty() || self.scenarios.contains(&scenario)
    }

    /// The target folder of the other host that takes part.
    pub(crate) fn other(&self) -> Option<&Path> {
        self.other.as_deref()
    }

    pub(crate) fn effort(&self) -> Result<Effort> {
        Ok(Effort {
            turn: Duration::try_from_secs_f64(self.seconds).context("--seconds")?,
            rounds: self.rounds.max(1),
            connections: self.connections.max(1),
        })
    }
}

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One lean component with all spans exported, against native hyper with and without one span of the stock SDK.
    Inventory,
    /// The chain of three services, against the same in native Rust and in Python, and with parts turned off.
    Chain,
    /// The chain with a collector, without one, and with one that never answers: requests must not notice.
    Outage,
    /// The chain while components are swapped, against the same without.
    Swap,
    /// The chain while pages of the console follow it, against the same with the console left alone.
    Console,
    /// Standard components with all spans exported, against `wasmtime serve`, which traces nothing.
    Standard,
    /// The memory that instances and services of each kind take.
    Memory,
    /// One span, from its start to the queue and to the collector, against the stock SDK.
    Spans,
}

/// What this program does where it was started by itself, as a peer of the host.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Serves as a peer until it is stopped.
    #[command(hide = true)]
    Peer {
        /// Which one.
        peer: native::Peer,
        /// Where it listens.
        address: SocketAddr,
        /// The service that it calls, where it calls one.
        #[arg(default_value = "http://127.0.0.1:9")]
        downstream: String,
    },
}

/// How long and how hard each contender is pushed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) turn: Duration,
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
}

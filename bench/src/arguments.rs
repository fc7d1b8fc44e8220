//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use crate::native;

/// Measures the host against its peers. Without arguments, runs all scenarios.
#[derive(Debug, Parser)]
#[command(name = "bench", subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// The scenarios to run.
    scenarios: Vec<Scenario>,
    /// Seconds for which each contender is measured in each round, after a second of warm-up.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The number of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The number of connections. Each sends one request after the other.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// The target folder of another checkout, built for release. `inventory` and `chain` also measure its host and
    /// components.
    #[arg(long, value_name = "TARGET")]
    other: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

impl Arguments {
    pub(crate) fn includes(&self, scenario: Scenario) -> bool {
        self.scenarios.is_empty() || self.scenarios.contains(&scenario)
    }

    /// The target folder of the other checkout.
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

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One lean component with all spans exported, against native hyper with and without one span of the stock SDK.
    Inventory,
    /// The chain of three services, against the same services in native Rust and Python, and with features turned off.
    Chain,
    /// The chain with a collector, without one, and with one that never responds: requests must not become slower.
    Outage,
    /// The chain while components are swapped, against the chain without swaps.
    Swap,
    /// The chain while pages of the console are open, against the chain without open pages.
    Console,
    /// Standard components with all spans exported, against `wasmtime serve`, which does not trace.
    Standard,
    /// The memory of instances and services, for each kind of component.
    Memory,
    /// The cost of a span until it is queued and until the collector has received it, against the stock SDK.
    Spans,
}

/// The role of this process if the benchmark has started it itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Serves as a peer until it is stopped.
    #[command(hide = true)]
    Peer {
        /// The peer.
        peer: native::Peer,
        /// The address to listen on.
        address: SocketAddr,
        /// The URL of the service that the peer calls, if it calls one.
        #[arg(default_value = "http://127.0.0.1:9")]
        downstream: String,
    },
}

/// Duration and load of the measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) turn: Duration,
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
}

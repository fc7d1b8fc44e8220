//! Measures the host against its peers on one machine in one run. The ratios can be compared between machines, the
//! absolute figures cannot.
//!
//! Contenders take turns: every round starts each of them, measures it for the same time under the same load, and stops
//! it. The report contains medians over the rounds. The load generator, the contender and a collector that counts spans
//! share the cores.

mod arguments;
mod collector;
mod console;
mod contender;
mod cpu;
mod fastapi;
mod folders;
mod held;
mod host;
mod load;
mod memory;
mod native;
mod report;
mod scenario;
mod spans;
mod standard;
mod swaps;
mod turns;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use self::arguments::{Arguments, Role, Scenario};

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    // reqwest requires a provider even without TLS. An error means that one is already installed.
    rustls::crypto::ring::default_provider().install_default().ok();
    if let Some(Role::Peer { peer, address, downstream }) = arguments.role {
        return native::serve(peer, address, downstream);
    }
    let effort = arguments.effort()?;
    for scenario in Scenario::value_variants().iter().filter(|scenario| arguments.includes(**scenario)) {
        match scenario {
            Scenario::Inventory => scenario::inventory(effort, arguments.other())?,
            Scenario::Chain => scenario::chain(effort, arguments.other())?,
            Scenario::Outage => scenario::outage(effort)?,
            Scenario::Swap => swaps::run(effort)?,
            Scenario::Console => console::run(effort)?,
            Scenario::Standard => standard::run(effort)?,
            Scenario::Memory => memory::run()?,
            Scenario::Spans => spans::run()?,
        }
    }
    Ok(())
}

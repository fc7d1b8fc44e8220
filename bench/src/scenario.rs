//! The scenarios that compare the host with its peers, and the goals of their ratios.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Result;

use crate::arguments::Effort;
use crate::contender::{Contender, Plan, free_addresses};
use crate::fastapi;
use crate::host::Shop;
use crate::load::Target;
use crate::native::{self, Peer};
use crate::report;
use crate::report::{CPU, Goal, P50, P99, THROUGHPUT, USER_CPU, compare, heading, table};
use crate::turns::{Standing, take};

/// The name of the host of another checkout.
const OTHER: &str = "spandrel, the other checkout";

/// One lean component against native hyper.
pub(crate) fn inventory(effort: Effort, other: Option<&Path>) -> Result<()> {
    heading("GET /inventory/1, one component, 4 spans");
    let mut plans = vec![
        Shop::new()?.inventory("spandrel"),
        Plan::new("hyper", || native_service(Peer::Hyper)),
        Plan::new("hyper + 1 SDK span", || native_service(Peer::HyperSpan)),
        Plan::new("axum, stock SDK, the same 4 spans", || native_service(Peer::Inventory)),
    ];
    if let Some(target) = other {
        plans.push(Shop::of_other(target)?.inventory(OTHER));
    }
    let standings = take(&plans, effort)?;
    table(&standings);
    let [spandrel, hyper, hyper_span, axum, other @ ..] = &standings[..] else {
        unreachable!("at least four contenders")
    };
    compare(spandrel, axum, THROUGHPUT, Goal::AtLeast(0.8));
    compare(spandrel, axum, CPU, Goal::None);
    compare(spandrel, axum, USER_CPU, Goal::None);
    compare(spandrel, hyper_span, THROUGHPUT, Goal::None);
    compare(spandrel, hyper, THROUGHPUT, Goal::None);
    other.iter().for_each(|other| compare_with_other(spandrel, other));
    Ok(())
}

/// One native process that answers like inventory-service.
fn native_service(peer: Peer) -> Result<Contender> {
    let [address] = free_addresses()?;
    Contender::start(Target::inventory(address), vec![native::process(peer, address, None)?])
}

/// The chain of three services against the same services in native Rust and Python, and against the host with features
/// turned off.
pub(crate) fn chain(effort: Effort, other: Option<&Path>) -> Result<()> {
    heading("GET /users/1/recommendations, three services, 24 spans");
    let mut plans = vec![
        Shop::new()?.chain("spandrel"),
        Shop::new()?.env("OTEL_SDK_DISABLED", "true").chain("spandrel, OTEL_SDK_DISABLED=true"),
        Shop::new()?.console("traces = 0").chain("spandrel, trace store off"),
        Plan::new("axum, reqwest, stock SDK: three processes", axum),
    ];
    if let Some(target) = other {
        plans.push(Shop::of_other(target)?.chain(OTHER));
    }
    match fastapi::plan() {
        Ok(fastapi) => plans.push(fastapi),
        Err(reason) => println!("FastAPI: SKIPPED: it cannot be started: {reason:#}\n"),
    }
    let standings = take(&plans, effort)?;
    table(&standings);
    let [spandrel, disabled, storeless, axum, rest @ ..] = &standings[..] else {
        unreachable!("at least four contenders")
    };
    compare(spandrel, axum, THROUGHPUT, Goal::AtLeast(2.0));
    compare(spandrel, axum, P50, Goal::AtMost(0.5));
    compare(spandrel, axum, CPU, Goal::AtMost(0.33));
    compare(spandrel, axum, USER_CPU, Goal::None);
    for peer in rest {
        if peer.name == OTHER {
            compare_with_other(spandrel, peer);
        } else {
            compare(spandrel, peer, THROUGHPUT, Goal::AtLeast(100.0));
        }
    }
    compare(spandrel, disabled, THROUGHPUT, Goal::AtLeast(0.65));
    compare(spandrel, storeless, THROUGHPUT, Goal::AtLeast(0.95));
    Ok(())
}

/// Compares this host with the one of another checkout.
fn compare_with_other(spandrel: &Standing, other: &Standing) {
    for figure in [THROUGHPUT, P50, P99, CPU, USER_CPU] {
        compare(spandrel, other, figure, Goal::None);
    }
}

/// The three services with axum and reqwest, one process each.
fn axum() -> Result<Contender> {
    let [inventory, product, user] = free_addresses()?;
    let processes = vec![
        native::process(Peer::Inventory, inventory, None)?,
        native::process(Peer::Product, product, Some(inventory))?,
        native::process(Peer::User, user, Some(product))?,
    ];
    Contender::start(Target::chain(user), processes)
}

/// The chain with a collector, without one, and with one that accepts connections and never responds.
pub(crate) fn outage(effort: Effort) -> Result<()> {
    heading("The chain while the collector is unavailable");
    let [closed]: [SocketAddr; 1] = free_addresses()?;
    let hanging = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = |address: SocketAddr| format!("http://{address}");
    let exporting =
        |address| Ok::<_, anyhow::Error>(Shop::new()?.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint(address)));
    let plans = [
        Shop::new()?.chain("a collector"),
        exporting(closed)?.chain("no collector"),
        exporting(hanging.local_addr()?)?.chain("a collector that never responds"),
    ];
    let standings = take(&plans, effort)?;
    table(&standings);
    let [present, away, hangs] = &standings[..] else { unreachable!("three contenders") };
    for (standing, other) in [(away, present), (hangs, present)] {
        compare_latency(standing, other);
    }
    Ok(())
}

fn compare_latency(standing: &Standing, other: &Standing) {
    for figure in [P99, P50, THROUGHPUT] {
        report::compare(standing, other, figure, Goal::None);
    }
}

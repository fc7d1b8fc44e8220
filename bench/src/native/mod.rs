//! Peers in native Rust: what somebody would write who takes no WebAssembly.

mod hyper;
mod inventory;
mod product;
mod telemetry;
mod user;

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::telemetry::Telemetry;
use crate::contender::Process;

/// A peer of the host.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Peer {
    /// hyper and nothing else: as fast as HTTP gets here.
    Hyper,
    /// hyper with one server span of the stock SDK for each request.
    HyperSpan,
    /// inventory-service with axum.
    Inventory,
    /// product-service with axum and reqwest.
    Product,
    /// user-service with axum and reqwest.
    User,
}

/// This program as a peer.
pub(crate) fn process(peer: Peer, address: SocketAddr, downstream: Option<SocketAddr>) -> Result<Process> {
    let name = peer.to_possible_value().context("every peer has a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["peer", name.get_name(), &address.to_string()]);
    command.args(downstream.map(|downstream| format!("http://{downstream}")));
    Ok(Process { command, address })
}

/// Serves until SIGTERM, then sends the last spans.
pub(crate) fn serve(peer: Peer, address: SocketAddr, downstream: String) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let telemetry = Telemetry::start(&peer)?;
        let client = reqwest::Client::builder().build()?;
        let router = match peer {
            Peer::Hyper => return hyper::serve(listener, None).await,
            Peer::HyperSpan => {
                hyper::serve(listener, Some(telemetry.tracer.clone())).await?;
                return telemetry.stop().await;
            }
            Peer::Inventory => inventory::router(telemetry.tracer.clone()),
            Peer::Product => product::router(telemetry.tracer.clone(), client, downstream),
            Peer::User => user::router(telemetry.tracer.clone(), client, downstream),
        };
        axum::serve(listener, router).with_graceful_shutdown(terminated()).await?;
        telemetry.stop().await
    })
}

/// Returns when this process should end.
async fn terminated() {
    let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    match signal {
        Ok(mut signal) => signal.recv().await,
        Err(_) => std::future::pending().await,
    };
}

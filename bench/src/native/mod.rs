//! Peers in native Rust: the shop's services without WebAssembly, and plain hyper.

mod hyper;
mod inventory;
mod peer;
mod product;
mod shutdown;
mod telemetry;
mod user;

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

pub(crate) use self::peer::Peer;
use self::shutdown::terminated;
use self::telemetry::Telemetry;
use crate::contender::Process;

/// The process of a peer: this program with other arguments.
pub(crate) fn process(peer: Peer, address: SocketAddr, downstream: Option<SocketAddr>) -> Result<Process> {
    let name = peer.to_possible_value().context("the peer has no name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["peer", name.get_name(), &address.to_string()]);
    command.args(downstream.map(|downstream| format!("http://{downstream}")));
    Ok(Process { command, address })
}

/// Serves until SIGTERM, then exports the remaining spans.
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

//! The peers in native Rust.

use clap::ValueEnum;

/// A peer of the host.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Peer {
    /// hyper without tracing: the upper limit for HTTP with this library.
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

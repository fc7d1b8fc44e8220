//! What a component is, told without serving it: the facts behind `spandrel inspect`.

use std::sync::Arc;

use super::context::ServiceContext;
use super::contract::{Contract, Kind};
use super::digest::Digest;
use super::engine::Engine;
use super::error::ComponentError;
use crate::http::routes::Route;

/// One interface that a component imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The interface with its version, as in `wasi:config/store@0.2.0-rc.1`.
    pub name: String,
    /// Whether the host has it.
    pub offered: bool,
}

/// What a component says of itself.
#[derive(Debug)]
pub struct Inspection {
    /// Lean, standard or neither.
    pub kind: Kind,
    /// Of the component's bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: usize,
    /// What it needs of a host.
    pub imports: Vec<Import>,
    /// What it gives a host.
    pub exports: Vec<String>,
    /// The endpoints of a lean component, or why it could not name them.
    pub routes: Result<Vec<Route>, ComponentError>,
}

/// Compiles a component and looks at it. Fails only where the bytes are no component.
pub async fn inspect(
    engine: &Engine,
    bytes: Arc<[u8]>,
    context: &Arc<ServiceContext>,
) -> Result<Inspection, ComponentError> {
    let contract = Contract::read(&bytes)?;
    let imports = contract.offers().map(|(name, offered)| Import { name: name.to_owned(), offered }).collect();
    let routes = async {
        let candidate = engine.compile(bytes.clone()).await?;
        let prepared = engine.verify(candidate, context).await?;
        Ok(prepared.routes().routes().to_vec())
    };
    Ok(Inspection {
        kind: contract.kind(),
        digest: Digest::of(&bytes),
        size: bytes.len(),
        imports,
        exports: contract.exports,
        routes: routes.await,
    })
}

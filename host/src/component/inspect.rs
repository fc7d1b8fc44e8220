//! Describes a component without serving it, for `spandrel inspect`.

use std::sync::Arc;

use super::context::ServiceContext;
use super::contract::{Contract, Kind};
use super::digest::Digest;
use super::engine::Engine;
use super::error::ComponentError;
use crate::http::routes::Route;

/// An interface that a component imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The interface with its version, as in `wasi:config/store@0.2.0-rc.1`.
    pub name: String,
    /// Whether the host implements it.
    pub offered: bool,
}

/// The description of a component.
#[derive(Debug)]
pub struct Inspection {
    /// Lean, standard or neither.
    pub kind: Kind,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: usize,
    /// The interfaces that it imports.
    pub imports: Vec<Import>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The routes of a lean component, or why they could not be determined.
    pub routes: Result<Vec<Route>, ComponentError>,
}

/// Compiles and describes a component. Fails only if the bytes are not a component.
pub async fn inspect(
    engine: &Engine,
    bytes: Arc<[u8]>,
    context: &Arc<ServiceContext>,
) -> Result<Inspection, ComponentError> {
    let contract = Contract::read(&bytes)?;
    let imports =
        contract.imports_with_support().map(|(name, offered)| Import { name: name.to_owned(), offered }).collect();
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

//! What a component is, told without serving it: the facts behind `spandrel inspect`.

use std::sync::Arc;

use wasmtime::component::Component;

use super::compile::{self, ComponentError, Digest, Kind};
use super::engine::Engine;
use super::instance::Environment;
use crate::routes::Route;

/// Interfaces that the host has, by package and interface, with the versions that fit.
const OFFERED: [(&str, &[&str]); 5] = [
    ("spandrel:service/http@0.1.", &[]),
    ("spandrel:service/", &["tracing@0.1.", "client@0.1."]),
    ("wasi:config/", &["store@0.2.0-rc.1"]),
    ("wasi:keyvalue/", &["store@0.2.0-draft2", "atomics@0.2.0-draft2"]),
    ("wasi:", &["cli/", "clocks/", "filesystem/", "io/", "random/", "sockets/"]),
];

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
    environment: &Arc<Environment>,
) -> Result<Inspection, ComponentError> {
    compile::check_header(&bytes)?;
    let component = engine.component(&bytes)?;
    let exports = compile::export_names(engine, &component);
    let imports = compile::import_names(engine, &component).into_iter();
    let imports = imports.map(|name| Import { offered: offers(&name), name });
    let routes = async {
        let candidate = engine.compile(bytes.clone()).await?;
        let prepared = engine.verify(candidate, environment).await?;
        Ok(prepared.routes().routes().to_vec())
    };
    Ok(Inspection {
        kind: compile::kind(&exports),
        digest: Digest::of(&bytes),
        size: bytes.len(),
        imports: imports.collect(),
        exports,
        routes: routes.await,
    })
}

/// The imports of a component that the host does not have.
pub(super) fn unknown_imports(engine: &Engine, component: &Component) -> Vec<String> {
    compile::import_names(engine, component).into_iter().filter(|name| !offers(name)).collect()
}

fn offers(import: &str) -> bool {
    OFFERED.iter().any(|(prefix, rest)| match import.strip_prefix(prefix) {
        Some(_) if rest.is_empty() => true,
        Some(tail) if *prefix == "wasi:" => rest.iter().any(|name| tail.starts_with(name)) && tail.contains("@0.2."),
        Some(tail) => rest.iter().any(|name| tail.starts_with(name)),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_knows_what_it_offers() {
        for name in [
            "spandrel:service/tracing@0.1.0",
            "spandrel:service/http@0.1.0",
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:io/streams@0.2.6",
        ] {
            assert!(offers(name), "{name}");
        }
        for name in ["spandrel:service/files@0.1.0", "wasi:keyvalue/batch@0.2.0-draft2", "wasi:io/streams@0.3.0", "env"]
        {
            assert!(!offers(name), "{name}");
        }
    }
}

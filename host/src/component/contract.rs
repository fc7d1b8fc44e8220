//! What a component says of itself before it runs: its kind, its imports and its exports, and what the host offers.

use std::fmt;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::error::ComponentError;

/// The export that makes a component lean.
const HANDLER: &str = "spandrel:service/handler@";
/// The exports that make a component standard: `wasi:http` 0.2 and 0.3.
const STANDARD: [&str; 2] = ["wasi:http/incoming-handler@", "wasi:http/handler@"];
/// Interfaces that the host has, by package and interface, with the versions that fit.
const OFFERED: [(&str, &[&str]); 5] = [
    ("spandrel:service/http@0.1.", &[]),
    ("spandrel:service/", &["tracing@0.1.", "client@0.1.", "metrics@0.1."]),
    ("wasi:config/", &["store@0.2.0-rc.1"]),
    ("wasi:keyvalue/", &["store@0.2.0-draft2", "atomics@0.2.0-draft2"]),
    ("wasi:", &["cli/", "clocks/", "filesystem/", "io/", "random/", "sockets/"]),
];

/// What a component is, read off its exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exports `spandrel:service/handler`.
    Lean,
    /// Exports a `wasi:http` handler.
    Standard,
    /// Neither.
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Lean => "lean",
            Kind::Standard => "standard",
            Kind::Unknown => "unknown",
        })
    }
}

/// Tells a component from a core module and from anything else by its first eight bytes.
pub(super) fn check_header(bytes: &[u8]) -> Result<(), ComponentError> {
    match bytes {
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(ComponentError::CoreModule),
        [0, b'a', b's', b'm', ..] => Err(ComponentError::Invalid("its version is unknown".to_owned())),
        _ => Err(ComponentError::NotWasm { size: bytes.len() }),
    }
}

pub(super) fn export_names(engine: &Engine, component: &Component) -> Vec<String> {
    let exports = component.component_type();
    exports.exports(engine).map(|(name, _)| name.to_owned()).collect()
}

pub(super) fn import_names(engine: &Engine, component: &Component) -> Vec<String> {
    let imports = component.component_type();
    let functions = imports.imports(engine).filter(|(_, item)| !is_type(&item.ty));
    functions.map(|(name, _)| name.to_owned()).collect()
}

fn is_type(item: &ComponentItem) -> bool {
    matches!(item, ComponentItem::Type(_))
}

pub(super) fn kind(exports: &[String]) -> Kind {
    if exports.iter().any(|name| name.starts_with(HANDLER)) {
        Kind::Lean
    } else if exports.iter().any(|name| is_standard(name)) {
        Kind::Standard
    } else {
        Kind::Unknown
    }
}

pub(super) fn is_standard(export: &str) -> bool {
    STANDARD.iter().any(|prefix| export.starts_with(prefix))
}

/// The imports of a component that the host does not have.
pub(super) fn unknown_imports(engine: &Engine, component: &Component) -> Vec<String> {
    import_names(engine, component).into_iter().filter(|name| !offers(name)).collect()
}

pub(super) fn offers(import: &str) -> bool {
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
            "spandrel:service/metrics@0.1.0",
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

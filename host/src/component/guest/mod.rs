//! The kinds of guest: a component linked for its kind, and the interface common to instances of all kinds.

mod instance;
pub(super) mod lean;
pub(super) mod standard;
mod store;

pub use self::instance::{Guest, StartFailure};
use self::lean::LeanPre;
use self::standard::StandardPre;

/// A compiled component, linked for its kind.
#[derive(Clone)]
pub(super) enum Linked {
    /// Exports `spandrel:service/handler`.
    Lean(LeanPre),
    /// Exports a `wasi:http` handler.
    Standard(StandardPre),
}

impl Linked {
    /// The engine that compiled it.
    pub fn engine(&self) -> &wasmtime::Engine {
        match self {
            Linked::Lean(pre) => pre.engine(),
            Linked::Standard(pre) => pre.engine(),
        }
    }
}

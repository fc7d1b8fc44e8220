//! The kinds of guest: a component that was linked for its kind, and what instances of every kind have in common.

mod instance;
pub(super) mod lean;
pub(super) mod standard;
mod store;

pub use self::instance::Guest;
use self::lean::LeanPre;
use self::standard::StandardPre;

/// A component that was compiled and linked as its kind asks for.
#[derive(Clone)]
pub(super) enum Linked {
    /// Exports `spandrel:service/handler`.
    Lean(LeanPre),
    /// Exports a `wasi:http` handler.
    Standard(StandardPre),
}

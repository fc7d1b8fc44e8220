//! The interface to the host.
//!
//! Two implementations with the same names and signatures: the generated bindings where the library is compiled for
//! `wasm32`, and an in-memory host everywhere else. No other module depends on which one it is.

#[cfg(any(target_arch = "wasm32", test))]
mod encoding;

#[cfg(target_arch = "wasm32")]
#[path = "wasm.rs"]
mod implementation;

#[cfg(not(target_arch = "wasm32"))]
#[path = "native.rs"]
mod implementation;

pub use implementation::*;

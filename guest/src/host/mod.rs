//! The interface to the host.
//!
//! Three implementations with the same names and signatures: the generated bindings of a lean component, WASI for a
//! component that runs elsewhere, and an in-memory host for native tests. No other module depends on which one it is.

#[cfg(any(all(target_arch = "wasm32", not(feature = "wasi-http")), test))]
mod encoding;
#[cfg(all(target_arch = "wasm32", not(feature = "wasi-http")))]
mod lean;
#[cfg(any(all(target_arch = "wasm32", feature = "wasi-http", not(feature = "wasi-otel")), test))]
mod log_line;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(any(not(target_arch = "wasm32"), feature = "wasi-http"))]
mod types;
#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
mod wasi;

#[cfg(all(target_arch = "wasm32", not(feature = "wasi-http")))]
pub use lean::*;
#[cfg(not(target_arch = "wasm32"))]
pub use native::*;
#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
pub use wasi::*;

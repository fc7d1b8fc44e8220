//! A service as a component of `wasi:http` 0.2. What a Spandrel host does for a lean component around its handler is done
//! here: routing, refusals, limits, and checking the response.

#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
mod exchange;
mod front;

#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
pub use exchange::serve;
#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
pub use wasip2 as wasi;

//! A service as a `wasi:http` 0.2 component. This module does what a Spandrel host does for a lean component: routing,
//! rejections, limits and response validation.

#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
mod exchange;
mod routing;

#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
pub use exchange::serve;
#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
pub use wasip2 as wasi;

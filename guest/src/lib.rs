//! What services of a Spandrel host are written with.
//!
//! A service is a list of routes and the functions behind them:
//!
//! ```
//! use guest::{Json, Problem, Request, Router};
//!
//! guest::serve!(routes);
//!
//! fn routes() -> Router {
//!     Router::new().get("/health", guest::healthy).get("/double/{number}", double)
//! }
//!
//! #[tracing::instrument(skip_all)]
//! fn double(request: &Request) -> Result<Json<i64>, Problem> {
//!     let number: i32 = request.param("number")?;
//!     Ok(Json(i64::from(number) * 2))
//! }
//! # fn main() {}
//! ```
//!
//! Spans come from `#[tracing::instrument]`, attributes from `Span::record`, log records and span events from
//! `tracing::info!` and its like. There is nothing to set up: the host owns the trace, and a service only adds to it.
//!
//! Compiled for `wasm32`, this crate talks to the host through the WIT world `spandrel:service/service`. With the feature
//! `wasi-http` it makes a component of `wasi:http` instead, for other hosts. Compiled natively it talks to an in-memory
//! host, so that handlers can be tested with `cargo test`; see [`testing`].
//!
//! An instance of a service answers many requests, one at a time. The library keeps nothing of one request for the
//! next, and a service should do the same: what must last belongs in [`kv`].

/// Public for [`serve!`] alone.
#[cfg(all(target_arch = "wasm32", not(feature = "wasi-http")))]
#[doc(hidden)]
#[allow(unsafe_code, missing_docs, clippy::all)]
pub mod bindings;
pub mod client;
pub mod config;
mod export;
#[cfg(any(test, all(target_arch = "wasm32", feature = "wasi-http")))]
mod header_rules;
mod health;
mod host;
mod json;
pub mod kv;
#[cfg(any(test, all(target_arch = "wasm32", feature = "wasi-http")))]
mod limits;
pub mod metrics;
mod multipart;
mod problem;
#[cfg(all(
    target_arch = "wasm32",
    any(feature = "wasi-config", feature = "wasi-keyvalue", feature = "wasi-keyvalue-draft", feature = "wasi-otel")
))]
#[allow(unsafe_code, missing_docs, dead_code, unused, clippy::all)]
mod proposals;
mod request;
mod response;
mod router;
mod service;
mod spans;
#[cfg(any(test, all(target_arch = "wasm32", feature = "wasi-http")))]
#[doc(hidden)]
pub mod standard;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod validation;

pub use config::flag;
pub use cookie::Cookie;
pub use health::{Health, healthy};
pub use host::Method;
pub use json::Json;
pub use multipart::Part;
pub use problem::{Invalid, Problem};
pub use request::Request;
pub use response::{IntoResponse, Response};
pub use router::Router;
pub use service::Service;
pub use spans::fail_span;
pub use validation::{Readings, all};

/// Makes a component of the crate: `serve!(routes)`, where `routes` is a `fn() -> Router`.
///
/// The service bears the package's name. The macro also defines `pub fn service()`, which native tests hand to
/// [`testing::Host`].
#[macro_export]
macro_rules! serve {
    ($routes:path) => {
        /// The service that this component serves.
        pub fn service() -> &'static $crate::Service {
            static SERVICE: ::std::sync::OnceLock<$crate::Service> = ::std::sync::OnceLock::new();
            SERVICE.get_or_init(|| $crate::Service::new(env!("CARGO_PKG_NAME"), $routes()))
        }

        $crate::__export!(service);
    };
}

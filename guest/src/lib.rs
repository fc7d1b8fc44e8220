//! The library for writing services of a Spandrel host.
//!
//! A service is a router with endpoints, and their handlers:
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
//! `tracing::info!` and similar macros. No setup is needed: the host owns the trace, and a service only adds to it.
//!
//! For `wasm32`, the crate calls the host through the WIT world `spandrel:service/service`; with the feature
//! `wasi-http` it builds a `wasi:http` component for other hosts instead. In native builds it calls an in-memory host,
//! so that handlers can be tested with `cargo test`; see [`testing`].
//!
//! An instance of a service serves many requests, one at a time. The library keeps no state between requests, and a
//! service should not either: persistent data belongs in [`kv`].

/// Public only for [`serve!`].
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
pub use validation::{ResultTuple, all};

/// Exports the crate as a component: `serve!(routes)`, where `routes` is a `fn() -> Router`.
///
/// The service has the name of the package. The macro also defines `pub fn service()`, which native tests pass to
/// [`testing::Host`].
#[macro_export]
macro_rules! serve {
    ($routes:path) => {
        /// The service of this component.
        pub fn service() -> &'static $crate::Service {
            static SERVICE: ::std::sync::OnceLock<$crate::Service> = ::std::sync::OnceLock::new();
            SERVICE.get_or_init(|| $crate::Service::new(env!("CARGO_PKG_NAME"), $routes()))
        }

        $crate::__export!(service);
    };
}

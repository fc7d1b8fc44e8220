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
//! Compiled for `wasm32`, this crate talks to the host through the WIT world `spandrel:service/service`. Compiled
//! natively it talks to an in-memory host, so that handlers can be tested with `cargo test`; see [`testing`].
//!
//! An instance of a service answers many requests, one at a time. The library keeps nothing of one request for the
//! next, and a service should do the same: what must last belongs in [`kv`].

pub mod client;
pub mod config;
mod health;
mod host;
pub mod kv;
pub mod metrics;
mod multipart;
mod problem;
mod request;
mod response;
mod router;
mod service;
mod spans;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod validation;

/// The generated side of the WIT world. Public for [`serve!`] alone.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(unsafe_code, missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "service",
        ownership: Borrowing { duplicate_if_necessary: false },
        pub_export_macro: true,
        default_bindings_module: "guest::bindings",
        generate_all,
    });
}

pub use config::flag;
pub use cookie::Cookie;
pub use health::{Health, healthy};
pub use host::Method;
pub use multipart::Part;
pub use problem::{Invalid, Problem};
pub use request::Request;
pub use response::{IntoResponse, Json, Response};
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

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::exports::spandrel::service::handler;

            struct Component;

            impl handler::Guest for Component {
                fn routes() -> ::std::vec::Vec<handler::Route> {
                    service().routes()
                }

                fn handle(request: handler::Request) -> handler::Response {
                    service().handle(request)
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
    };
}

//! HTTP rules of the host: bodies, request heads, authorities, methods, header fields, CORS, content codings, routes,
//! redaction of URLs on spans and problem details.
//!
//! This module imports no other module of the host.

pub mod authority;
mod body;
pub mod coding;
pub mod cors;
mod declared_body;
pub mod forwarded;
pub mod head;
pub mod header_rules;
pub mod host;
pub mod http1;
pub mod method;
mod observed_body;
pub mod problem;
pub mod redaction;
pub mod vary;

pub use self::body::{Body, BodyError, FRAME_LIMIT};
pub use self::declared_body::declared;
pub use self::observed_body::BodyFailure;
pub use self::problem::problem;
pub use spandrel_routes as routes;

/// The scheme of requests to the host's listeners, which serve plain HTTP. The forwarded fields of a trusted proxy
/// override it if TLS ends at the proxy.
pub const SCHEME: &str = "http";

//! What HTTP is to the host: bodies, heads, authorities, methods, header rules, routes, URLs on spans and problem answers.
//!
//! This module imports no other module of the host.

pub mod authority;
pub mod bare;
mod body;
pub mod coding;
pub mod cors;
pub mod forwarded;
pub mod head;
pub mod header_rules;
pub mod method;
pub mod problem;
pub mod redaction;
pub mod vary;

pub use self::body::{Body, BodyError, FRAME};
pub use self::problem::problem;
pub use spandrel_routes as routes;

/// The scheme of requests to the host's listeners, which speak plain HTTP: TLS ends in front of them, and where a proxy
/// that is trusted says so, the scheme is another.
pub const SCHEME: &str = "http";

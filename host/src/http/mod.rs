//! What HTTP is to the host: bodies, methods, header rules, routes, URLs on spans and problem answers.
//!
//! This module imports no other module of the host.

mod body;
pub mod header_rules;
pub mod method;
mod problem;
pub mod redaction;

pub use self::body::{Body, BodyError, FRAME};
pub use self::problem::problem;
pub use spandrel_routes as routes;

/// The scheme of requests to the host's listeners, which speak plain HTTP: TLS ends in front of them.
pub const SCHEME: &str = "http";

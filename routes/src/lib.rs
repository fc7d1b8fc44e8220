//! Matches a method and a path to a route of a service, for the host and for the guest library. It has no state and
//! does no I/O.
//!
//! A template consists of literal segments, `{name}` parameters and, optionally as its last segment, a `{*name}`
//! wildcard, which matches the rest of the path. If several templates match, the one with a literal in the first
//! segment in which they differ takes precedence, so `/products/recommend` takes precedence over `/products/{id}`. The
//! order of declaration does not matter. A parameter and a wildcard in the same position are rejected.

mod table;
mod template;

pub use table::{Match, Route, RouteIndex, RouteTable};
pub use template::RouteError;

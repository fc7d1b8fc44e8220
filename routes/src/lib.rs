//! From a method and a path to one of a service's routes, for the host and for the native test host of the guest library
//! alike. Pure: it knows no service and does no I/O.
//!
//! A template consists of literal segments, `{name}` parameters and, as its last segment, possibly a `{*name}` wildcard,
//! which takes the rest of the path. Where several templates match, the one with the literal at the first segment in which
//! they differ wins, so `/products/recommend` beats `/products/{id}`. The order of declaration does not matter. A parameter
//! and a wildcard at the same place are refused.

mod table;
mod template;

pub use table::{Match, Route, RouteIndex, RouteTable};
pub use template::RouteError;

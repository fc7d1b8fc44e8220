//! Components: from bytes to something that answers a request.
//!
//! [`Engine`] compiles bytes and checks them against the contract (`compile`); the result is a [`Prepared`]
//! component, which is never changed and can be instantiated any number of times. A [`Pool`] keeps its warm instances.
//! An instance belongs to exactly one request at a time; one that trapped, timed out or was
//! abandoned is thrown away with its store, so no request ever meets another's wreckage.
//!
//! `wasmtime` is named here and in `hostfn/`, nowhere else.

pub(crate) mod bindings;
mod compile;
mod cost;
mod engine;
mod failure;
mod inspect;
mod instance;
mod places;
mod pool;
mod symbols;

pub use self::compile::{Candidate, ComponentError, Digest, Kind, Prepared};
pub use self::cost::Cost;
pub(crate) use self::cost::measured;
pub use self::engine::{Engine, EngineError};
pub use self::failure::{Exception, Failure};
pub use self::inspect::{Import, Inspection, inspect};
pub use self::instance::{ActiveRequest, Environment, Handled, Invocation, Reply, State};
pub(crate) use self::instance::{from_wit, to_wit};
pub use self::pool::{Pool, PoolStats};

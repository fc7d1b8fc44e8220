//! Components: from bytes to something that answers a request.
//!
//! [`Engine`] compiles bytes and checks them against the contract (`compile`); the result is a [`Prepared`]
//! component, which is never changed and can be instantiated any number of times. A [`Pool`] keeps its warm instances.
//! An instance belongs to exactly one request at a time, unless the manifest lets one of WASI 0.3 serve several; one that
//! trapped, timed out or was abandoned is thrown away with its store, so no later request meets the wreckage.
//!
//! `wasmtime` is named here and in `hostfn/`, nowhere else.

pub(crate) mod account;
mod background;
pub(crate) mod bindings;
mod call_metrics;
pub(crate) mod client_call;
mod compile;
mod compiled;
mod context;
mod contract;
mod cost;
mod digest;
mod dwarf;
mod engine;
mod epoch;
mod error;
mod exhaustion;
mod failure;
mod function_name;
mod guest;
mod guest_output;
mod idle;
mod inspect;
mod instance_counts;
mod invocation;
mod panic_output;
mod pool;
pub(crate) mod resources;
pub(crate) mod standard_bindings;
mod store_data;
mod symbolizer;

pub use self::background::BackgroundWork;
pub use self::compile::{Candidate, Prepared};
pub use self::context::ServiceContext;
pub use self::contract::{HttpWorld, Kind, check};
pub use self::cost::Cost;
pub(crate) use self::cost::measured;
pub use self::digest::Digest;
pub use self::engine::{Engine, EngineError};
pub use self::error::ComponentError;
pub use self::failure::{Exception, Failure};
pub(crate) use self::guest::lean::{from_wit, to_wit};
pub(crate) use self::guest::standard::request_body_error;
pub use self::guest::standard::{GuestExecution, HttpInvocation, HttpOutcome};
pub(crate) use self::guest_output::GuestOutput;
pub use self::inspect::{Import, Inspection, inspect};
pub use self::invocation::{GuestRequest, Invocation, InvocationOutcome, Reply};
pub use self::pool::{Guests, LeanPool, Pool, StandardPool};
pub use self::store_data::StoreData;

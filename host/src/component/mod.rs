//! Components: compiling, linking, instantiating and calling them.
//!
//! [`Engine`] checks the bytes against the contract (`compile`) and compiles them into a [`Prepared`] component, which
//! is immutable and can be instantiated any number of times. A [`Pool`] keeps its idle instances. An instance belongs
//! to one request at a time, unless the manifest lets a WASI 0.3 instance serve several. An instance that trapped,
//! timed out or was cancelled is dropped with its store and never reused.
//!
//! `wasmtime` is named here and in `hostfn/`, nowhere else.

pub(crate) mod account;
mod background;
pub(crate) mod bindings;
mod call_metrics;
mod capacity;
pub(crate) mod client_call;
mod compile;
mod compiled;
mod context;
mod contract;
mod cost;
mod digest;
mod dwarf;
mod dwarf_budget;
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
mod instantiate;
mod invocation;
mod panic_output;
mod pool;
pub(crate) mod resources;
pub(crate) mod standard_bindings;
mod store_data;
mod symbolizer;
mod type_definition;
mod within;

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

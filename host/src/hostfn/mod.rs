//! What components may ask of the host: one WIT interface per file, each a thin layer over the module that does the work.
//!
//! Every function here works on the [`StoreData`](crate::component::StoreData) of the instance that calls it. There is no
//! ambient request and no ambient span: both are in that state, put there when the request began.

pub(crate) mod caller;
mod client;
mod config;
pub(crate) mod guest_request;
mod keyvalue;
mod keyvalue_draft;
pub(crate) mod logging;
mod metrics;
pub(crate) mod next;
mod otel;
pub(crate) mod outgoing;
mod tracing;

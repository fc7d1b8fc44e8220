//! Host functions: one WIT interface per file, each a thin layer over the module that does the work.
//!
//! Each function works on the [`StoreData`](crate::component::StoreData) of the calling instance. There is no ambient
//! request and no ambient span: both are in that state, set when the request began.

pub(crate) mod caller;
mod client;
mod config;
pub(crate) mod guest_request;
mod keyvalue;
mod keyvalue_draft;
pub(crate) mod logging;
mod metrics;
pub(crate) mod name_lookup;
pub(crate) mod next;
mod operation;
mod otel;
pub(crate) mod outgoing;
pub(crate) mod output;
mod tracing;

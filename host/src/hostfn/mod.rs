//! What components may ask of the host: one WIT interface per file, each a thin layer over the room that does the work.
//!
//! Every function here works on the [`State`](crate::component::State) of the instance that calls it. There is no
//! ambient request and no ambient span: both are in that state, put there when the request began.

pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod keyvalue;
pub(crate) mod stdio;
pub(crate) mod tracing;

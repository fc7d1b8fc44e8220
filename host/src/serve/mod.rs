//! The life of a request, in order: a connection of the listener, the dispatch to a service, the exchange that counts
//! and traces it, and the responses that the host sends without the guest.

pub mod admission;
pub mod arrival;
pub mod connection;
pub mod dispatch;
mod exchange;
pub mod listener;
pub mod peer;
mod probe_span;
pub mod refused_head;
mod rejection;
mod request_attributes;
mod response_body;
mod response_rules;
pub mod server_span;
mod standard;
mod trace_response;

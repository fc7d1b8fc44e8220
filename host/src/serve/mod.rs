//! The path of a request, in order: the connection of a listener, the dispatch to a service, the exchange that counts
//! and traces the request, and the responses that the host sends without the guest.

pub mod admission;
pub mod connection;
pub mod dispatch;
mod exchange;
pub mod inbound_request;
pub mod listener;
pub mod peer;
mod probe_span;
pub mod rejected_head;
mod rejection;
mod request_attributes;
mod response_body;
mod response_rules;
pub mod server_span;
mod standard;
mod trace_response;

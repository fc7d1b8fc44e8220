//! What reaches a collector, and what is counted where it does not.

mod answers;
mod collector;
mod delivery;
mod encoding;
mod outage;
mod tls;

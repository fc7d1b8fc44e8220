//! Tests of the OTLP exporters against a test collector.

mod collector;
mod delivery;
mod encoding;
mod outage;
mod responses;
mod tls;

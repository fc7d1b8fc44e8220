//! Interoperability of Jaeger's format with OpenTelemetry's propagator: each reads what the other writes.
//!
//! The propagator is no longer released with the rest of OpenTelemetry, so it uses a version of `opentelemetry` of its
//! own.

#![expect(deprecated, reason = "the crate is deprecated, but the format is still supported")]

use std::collections::HashMap;

use http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_jaeger_propagator::Propagator as Jaeger;
use opentelemetry_of_jaeger::Context;
use opentelemetry_of_jaeger::propagation::TextMapPropagator;
use opentelemetry_of_jaeger::trace::{
    SpanContext, SpanId as TheirSpanId, TraceContextExt, TraceFlags, TraceId as TheirTraceId, TraceState,
};
use proptest::prelude::*;

use super::Propagators;
use crate::trace::context::TraceContext;
use crate::trace::settings::Propagator;

proptest! {
    #[test]
    fn opentelemetry_reads_jaeger_headers_of_the_host(trace in 1_u128.., span in 1_u64.., sampled: bool) {
        let context = TraceContext::valid(TraceId::from(trace), SpanId::from(span), sampled).unwrap();
        let mut headers = HeaderMap::new();
        Propagators::new(&[Propagator::Jaeger]).inject(&context, None, &mut headers);
        let fields: HashMap<String, String> = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
            .collect();
        let found = Jaeger::new().extract(&fields);
        let read = found.span().span_context().clone();
        prop_assert_eq!(read.trace_id(), TheirTraceId::from(trace));
        prop_assert_eq!(read.span_id(), TheirSpanId::from(span));
        prop_assert_eq!(read.is_sampled(), sampled);
    }

    #[test]
    fn the_host_reads_jaeger_headers_of_opentelemetry(trace in 1_u128.., span in 1_u64.., sampled: bool) {
        let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let (trace_id, span_id) = (TheirTraceId::from(trace), TheirSpanId::from(span));
        let caller = SpanContext::new(trace_id, span_id, flags, true, TraceState::default());
        let mut fields = HashMap::new();
        Jaeger::new().inject_context(&Context::new().with_remote_span_context(caller), &mut fields);
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let read = Propagators::new(&[Propagator::Jaeger]).extract(&headers).parent;
        prop_assert_eq!(read, TraceContext::valid(TraceId::from(trace), SpanId::from(span), sampled));
    }
}

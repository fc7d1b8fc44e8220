//! Interoperability of the B3 formats with OpenTelemetry's propagator: each reads what the other writes.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_propagator_b3::{B3Encoding, Propagator as B3};
use proptest::prelude::*;

use super::Propagators;
use crate::trace::context::TraceContext;
use crate::trace::settings::Propagator;

const FORMATS: [(Propagator, B3Encoding); 2] =
    [(Propagator::B3, B3Encoding::SingleHeader), (Propagator::B3Multi, B3Encoding::MultipleHeader)];

/// The context that OpenTelemetry's propagator extracts.
fn extracted_by_opentelemetry(encoding: B3Encoding, headers: &HeaderMap) -> SpanContext {
    let fields: HashMap<String, String> =
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned())).collect();
    let context = B3::with_encoding(encoding).extract(&fields);
    context.span().span_context().clone()
}

proptest! {
    #[test]
    fn opentelemetry_reads_b3_of_the_host(trace in 1_u128.., span in 1_u64.., sampled: bool) {
        let context = TraceContext::valid(TraceId::from(trace), SpanId::from(span), sampled).unwrap();
        for (format, encoding) in FORMATS {
            let mut headers = HeaderMap::new();
            Propagators::new(&[format]).inject(&context, None, &mut headers);
            let read = extracted_by_opentelemetry(encoding, &headers);
            prop_assert_eq!((read.trace_id(), read.span_id()), (context.trace_id, context.span_id));
            prop_assert_eq!(read.is_sampled(), sampled);
        }
    }

    #[test]
    fn the_host_reads_b3_of_opentelemetry(trace in 1_u128.., span in 1_u64.., sampled: bool) {
        let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let (trace_id, span_id) = (TraceId::from(trace), SpanId::from(span));
        let caller = SpanContext::new(trace_id, span_id, flags, true, TraceState::default());
        let context = opentelemetry::Context::new().with_remote_span_context(caller);
        for (format, encoding) in FORMATS {
            let mut fields = HashMap::new();
            B3::with_encoding(encoding).inject_context(&context, &mut fields);
            let headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
                .collect();
            let read = Propagators::new(&[format]).extract(&headers).parent;
            prop_assert_eq!(read, TraceContext::valid(trace_id, span_id, sampled));
        }
    }
}

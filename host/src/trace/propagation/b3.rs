//! The B3 propagation format of Zipkin, with a single header or several.

use http::{HeaderMap, HeaderName};

use super::carrier::{caller, put, single};
use crate::trace::context::TraceContext;

const B3: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
/// The headers of both forms.
static HEADERS: [HeaderName; 6] = [B3, TRACE, SPAN, PARENT, SAMPLED, FLAGS];

/// Extracts the caller's context. Both forms are read, whichever is sent, the single header first.
pub(super) fn extract(headers: &HeaderMap) -> Option<TraceContext> {
    extract_single(headers).or_else(|| extract_multi(headers))
}

/// Whether a caller asks not to sample, with or without a span context.
pub(super) fn denies(headers: &HeaderMap) -> bool {
    match single(headers, &B3) {
        Some("0") => true,
        Some("1" | "d") => false,
        _ => multi_header_decision(headers) == Some(Some(Decision::Deny)),
    }
}

/// The sampling decision of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Deny,
    Accept,
    /// Accept, with the debug flag.
    Debug,
}

/// Parses `{trace}-{span}[-{sampled}[-{parent}]]`.
fn extract_single(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parts = single(headers, &B3)?.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    let sampled = parts.next();
    let parent_is_good = parts.next().is_none_or(|parent| parent.len() == 16);
    if !parent_is_good || parts.next().is_some() {
        return None;
    }
    let decision = match sampled {
        None => None,
        Some("d") => Some(Decision::Debug),
        Some("1") => Some(Decision::Accept),
        Some("0") => Some(Decision::Deny),
        Some(_) => return None,
    };
    context(trace, span, decision)
}

/// Parses the `x-b3-*` headers.
fn extract_multi(headers: &HeaderMap) -> Option<TraceContext> {
    let decision = multi_header_decision(headers)?;
    context(single(headers, &TRACE)?, single(headers, &SPAN)?, decision)
}

/// The decision in the `x-b3-*` headers; `Some(None)` if they contain none, `None` if they are malformed.
fn multi_header_decision(headers: &HeaderMap) -> Option<Option<Decision>> {
    match (single(headers, &FLAGS), single(headers, &SAMPLED)) {
        (Some("1"), _) => Some(Some(Decision::Debug)),
        (_, Some("1" | "true")) => Some(Some(Decision::Accept)),
        (_, Some("0" | "false")) => Some(Some(Decision::Deny)),
        (_, None) => Some(None),
        (_, Some(_)) => None,
    }
}

pub(super) fn inject_single(context: Option<&TraceContext>, headers: &mut HeaderMap) {
    let text = |context: &TraceContext| match sampled(context) {
        _ if context.debug => format!("{}-{}-d", context.trace_id, context.span_id),
        Some(sampled) => format!("{}-{}-{sampled}", context.trace_id, context.span_id),
        None => format!("{}-{}", context.trace_id, context.span_id),
    };
    put(headers, B3, context.map(text));
}

pub(super) fn inject_multi(context: Option<&TraceContext>, headers: &mut HeaderMap) {
    put(headers, TRACE, context.map(|context| context.trace_id.to_string()));
    put(headers, SPAN, context.map(|context| context.span_id.to_string()));
    put(headers, SAMPLED, context.and_then(sampled));
    put(headers, FLAGS, context.filter(|context| context.debug).map(|_| "1"));
}

/// Removes the headers of both forms.
pub(super) fn remove(headers: &mut HeaderMap) {
    HEADERS.iter().for_each(|name| drop(headers.remove(name)));
}

/// Whether this is a header of either form.
pub(super) fn is_header(name: &HeaderName) -> bool {
    HEADERS.contains(name)
}

/// The decision to propagate; `None` if the caller deferred it and the host has not decided.
fn sampled(context: &TraceContext) -> Option<&'static str> {
    if context.undecided { None } else { Some(if context.sampled { "1" } else { "0" }) }
}

/// A trace id has 64 or 128 bits. Without a sampling state the caller defers the decision.
fn context(trace: &str, span: &str, decision: Option<Decision>) -> Option<TraceContext> {
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return None;
    }
    let context = caller(trace, span, matches!(decision, Some(Decision::Accept | Decision::Debug)))?;
    Some(TraceContext { undecided: decision.is_none(), debug: decision == Some(Decision::Debug), ..context })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parsed decision of a `b3` header, or `None` if it is malformed.
    fn check(header: &str, expected: Option<Option<bool>>) {
        let headers = HeaderMap::from_iter([(B3, header.parse().unwrap())]);
        let found = extract_single(&headers).map(|context| (!context.undecided).then_some(context.sampled));
        assert_eq!(found, expected, "{header}");
    }

    #[test]
    fn a_single_header_carries_the_whole_context() {
        check("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90", Some(Some(true)));
        check("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d", Some(Some(true)));
        check("80f198ee56343ba8-e457b5a2e4d86bd1-0", Some(Some(false)));
        check("80f198ee56343ba8-e457b5a2e4d86bd1", Some(None));
    }

    #[test]
    fn malformed_headers_are_ignored() {
        check("0", None);
        check("", None);
        check("80f198ee56343ba-e457b5a2e4d86bd1-1", None);
        check("80f198ee56343ba8-e457b5a2e4d86bd-1", None);
        check("80f198ee56343ba8-e457b5a2e4d86bd1-x", None);
        check("80f198ee56343ba8-e457b5a2e4d86bd1-1-05", None);
        check("0000000000000000-e457b5a2e4d86bd1-1", None);
        check("80f198ee56343ba8-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90-more", None);
    }

    #[test]
    fn several_headers_carry_the_whole_context() {
        let multi = |sampled: &[(HeaderName, &str)]| {
            let ids = [(TRACE, "80f198ee56343ba864fe8b2a57d3eff7"), (SPAN, "e457b5a2e4d86bd1")];
            let fields = ids.iter().chain(sampled).map(|(name, value)| (name.clone(), value.parse().unwrap()));
            extract_multi(&HeaderMap::from_iter(fields)).map(|context| (!context.undecided).then_some(context.sampled))
        };
        assert_eq!(multi(&[(SAMPLED, "1")]), Some(Some(true)));
        assert_eq!(multi(&[(SAMPLED, "false")]), Some(Some(false)));
        assert_eq!(multi(&[(FLAGS, "1")]), Some(Some(true)));
        assert_eq!(multi(&[]), Some(None));
        assert_eq!(multi(&[(SAMPLED, "perhaps")]), None);
    }

    #[test]
    fn a_decision_is_propagated_unchanged() {
        for decision in ["-1", "-0", "-d", ""] {
            let header = format!("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1{decision}");
            let caller = extract(&HeaderMap::from_iter([(B3, header.parse().unwrap())])).unwrap();
            let (mut one, mut many) = (HeaderMap::new(), HeaderMap::new());
            inject_single(Some(&caller), &mut one);
            inject_multi(Some(&caller), &mut many);
            assert_eq!(one[B3], header.as_str());
            assert_eq!(many.contains_key(FLAGS), decision == "-d", "{many:?}");
            assert_eq!(extract(&many), Some(caller));
        }
    }

    #[test]
    fn a_caller_may_deny_without_a_span_context() {
        let check = |fields: &[(HeaderName, &str)], expected: bool| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
            assert_eq!(denies(&HeaderMap::from_iter(fields)), expected);
        };
        check(&[(B3, "0")], true);
        check(&[(SAMPLED, "0")], true);
        check(&[(SAMPLED, "false")], true);
        check(&[(B3, "1"), (SAMPLED, "0")], false);
        check(&[(SAMPLED, "0"), (FLAGS, "1")], false);
        check(&[(SAMPLED, "1")], false);
        check(&[], false);
    }
}

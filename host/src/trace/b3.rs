//! B3, Zipkin's way to pass trace context on: in one header or in several.

use http::{HeaderMap, HeaderName};

use super::context::TraceContext;
use super::propagation::{caller, put, single};

const B3: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// `{trace}-{span}[-{sampled}[-{parent}]]`.
pub(super) fn extract_single(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parts = single(headers, &B3)?.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    let sampled = parts.next();
    let parent_is_good = parts.next().is_none_or(|parent| parent.len() == 16);
    if !parent_is_good || parts.next().is_some() {
        return None;
    }
    match sampled {
        None => context(trace, span, None),
        Some("1" | "d") => context(trace, span, Some(true)),
        Some("0") => context(trace, span, Some(false)),
        Some(_) => None,
    }
}

/// The `x-b3-*` headers.
pub(super) fn extract_multi(headers: &HeaderMap) -> Option<TraceContext> {
    let sampled = match (single(headers, &FLAGS), single(headers, &SAMPLED)) {
        (Some("1"), _) | (_, Some("1" | "true")) => Some(true),
        (_, Some("0" | "false")) => Some(false),
        (_, None) => None,
        (_, Some(_)) => return None,
    };
    context(single(headers, &TRACE)?, single(headers, &SPAN)?, sampled)
}

pub(super) fn inject_single(context: Option<&TraceContext>, headers: &mut HeaderMap) {
    let text =
        |context: &TraceContext| format!("{}-{}-{}", context.trace_id, context.span_id, u8::from(context.sampled));
    put(headers, B3, context.map(text));
}

pub(super) fn inject_multi(context: Option<&TraceContext>, headers: &mut HeaderMap) {
    put(headers, TRACE, context.map(|context| context.trace_id.to_string()));
    put(headers, SPAN, context.map(|context| context.span_id.to_string()));
    put(headers, SAMPLED, context.map(|context| if context.sampled { "1" } else { "0" }));
    put(headers, PARENT, None::<&str>);
    put(headers, FLAGS, None::<&str>);
}

/// A trace id has 64 or 128 bits. A caller that says nothing of sampling leaves the decision to us.
fn context(trace: &str, span: &str, sampled: Option<bool>) -> Option<TraceContext> {
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return None;
    }
    let context = caller(trace, span, sampled.unwrap_or(false))?;
    Some(TraceContext { undecided: sampled.is_none(), ..context })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of a `b3` header: whether the caller sampled, or nothing where it is malformed.
    fn check(header: &str, expected: Option<Option<bool>>) {
        let headers = HeaderMap::from_iter([(B3, header.parse().unwrap())]);
        let found = extract_single(&headers).map(|context| (!context.undecided).then_some(context.sampled));
        assert_eq!(found, expected, "{header}");
    }

    #[test]
    fn one_header_says_it_all() {
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
    fn several_headers_say_it_too() {
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
}

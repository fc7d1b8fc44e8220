//! Trace queries, and whether a trace matches.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanKind, TraceId};

use super::stored_part::{SpanView, StoredPart, tag_hash};
use super::summary::TraceSummary;

/// What a query's bounds on time and duration refer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeScope {
    /// The whole trace.
    #[default]
    Trace,
    /// The span that matches the rest of the query, as in Jaeger.
    Span,
}

/// A trace query. All conditions must hold for a single span, except the bounds on time and duration if `time_scope` is
/// `Trace`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceQuery {
    /// The span belongs to this service.
    pub service: Option<String>,
    /// The span has this name.
    pub operation: Option<String>,
    /// The span has this kind.
    pub kind: Option<SpanKind>,
    /// The span, its events, its Resource or its scope have all of these attributes. Values are compared as text. Tags
    /// that Jaeger derives count too: `error`, `span.kind`, `otel.status_code`, `event`.
    pub tags: Vec<(String, String)>,
    /// Started at this time or later.
    pub after: Option<SystemTime>,
    /// Started at this time or earlier.
    pub before: Option<SystemTime>,
    /// Took at least this long.
    pub min_duration: Option<Duration>,
    /// Took at most this long.
    pub max_duration: Option<Duration>,
    /// What the bounds on time and duration refer to.
    pub time_scope: TimeScope,
    /// Only traces with a failed span.
    pub errors_only: bool,
    /// The most traces to return, latest first; 0 for no limit.
    pub limit: usize,
}

/// A query prepared for matching against many traces.
pub(super) struct PreparedQuery<'q> {
    query: &'q TraceQuery,
    tag_hashes: Vec<u32>,
}

impl<'q> PreparedQuery<'q> {
    pub fn new(query: &'q TraceQuery) -> PreparedQuery<'q> {
        PreparedQuery { query, tag_hashes: query.tags.iter().map(|(key, value)| tag_hash(key, value)).collect() }
    }

    /// Whether a trace with this summary may match.
    pub fn may_match(&self, summary: &TraceSummary) -> bool {
        let query = self.query;
        if query.errors_only && summary.errors == 0 {
            return false;
        }
        match query.time_scope {
            TimeScope::Trace => within(query, summary.start, summary.duration),
            // A span lies within its trace.
            TimeScope::Span => {
                query.before.is_none_or(|before| summary.start <= before)
                    && query.after.is_none_or(|after| summary.start + summary.duration >= after)
                    && query.min_duration.is_none_or(|least| summary.duration >= least)
            }
        }
    }

    /// Whether a part with these tag hashes may contain a matching span.
    pub fn may_match_part(&self, tag_hashes: &[u32]) -> bool {
        self.tag_hashes.iter().all(|wanted| tag_hashes.binary_search(wanted).is_ok())
    }

    /// Whether the query has conditions that must be checked span by span.
    pub fn needs_span_match(&self) -> bool {
        let query = self.query;
        let bounds = query.after.is_some() || query.before.is_some();
        let bounds = bounds || query.min_duration.is_some() || query.max_duration.is_some();
        query.service.is_some()
            || query.operation.is_some()
            || query.kind.is_some()
            || !query.tags.is_empty()
            || (query.time_scope == TimeScope::Span && bounds)
    }

    /// Whether a span of this part matches.
    pub fn matches_part(&self, part: &StoredPart) -> bool {
        if self.query.service.as_deref().is_some_and(|service| service != part.service()) {
            return false;
        }
        let mut on_resource = vec![false; self.query.tags.len()];
        if !self.query.tags.is_empty() {
            part.resource_tags(&mut |key, value| self.mark(&mut on_resource, key, value));
        }
        part.spans().any(|span| self.matches_span(span, &on_resource))
    }

    fn matches_span(&self, span: SpanView<'_>, on_resource: &[bool]) -> bool {
        let query = self.query;
        if query.operation.as_deref().is_some_and(|operation| operation != span.name())
            || query.kind.as_ref().is_some_and(|kind| Some(kind) != span.kind())
            || (query.time_scope == TimeScope::Span && !within(query, span.start(), span.duration()))
        {
            return false;
        }
        let mut found = on_resource.to_vec();
        if found.contains(&false) {
            span.tags(&mut |key, value| self.mark(&mut found, key, value));
        }
        !found.contains(&false)
    }

    fn mark(&self, found: &mut [bool], key: &str, value: &str) {
        for (found, (wanted, text)) in found.iter_mut().zip(&self.query.tags) {
            *found = *found || (wanted == key && text == value);
        }
    }
}

fn within(query: &TraceQuery, start: SystemTime, duration: Duration) -> bool {
    query.after.is_none_or(|after| start >= after)
        && query.before.is_none_or(|before| start <= before)
        && query.min_duration.is_none_or(|least| duration >= least)
        && query.max_duration.is_none_or(|most| duration <= most)
}

/// Parses a trace id as people write it: up to 32 hexadecimal digits, with or without leading zeros.
pub fn parse_trace_id(text: &str) -> Option<TraceId> {
    let good = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|id| good && *id != 0)?;
    Some(TraceId::from(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_are_read_with_and_without_leading_zeros() {
        let id = Some(TraceId::from(0xab_u128));
        assert_eq!(parse_trace_id("ab"), id);
        assert_eq!(parse_trace_id("AB"), id);
        assert_eq!(parse_trace_id(&format!("{:032x}", 0xab)), id);
        for bad in ["", "0", "+1", "-1", "xyz", "0x1", " 1", &"1".repeat(33)] {
            assert_eq!(parse_trace_id(bad), None, "{bad}");
        }
    }
}

//! Jaeger's warnings about clock skew. Its adjustment is turned off by default, so it only reports what it would
//! change.

use std::collections::{HashMap, HashSet};

use super::duration;

/// Time and host of a span. Times are in nanoseconds.
pub(super) struct SpanTiming {
    pub id: u64,
    pub parent: Option<u64>,
    pub start: u64,
    pub duration: u64,
    /// Spans with the same host share a clock; empty if it is unknown.
    pub host: String,
}

/// A clock difference, and the host for which it was computed.
#[derive(Clone, Copy)]
struct Skew<'s> {
    nanos: i64,
    host: &'s str,
}

/// The warnings for each span; `missing` is the text for a missing parent.
pub(super) fn warnings(spans: &[SpanTiming], missing: impl Fn(u64) -> String) -> Vec<Vec<String>> {
    let mut warnings = vec![Vec::new(); spans.len()];
    let (mut by_id, mut seen) = (HashMap::new(), HashSet::new());
    for ((index, span), warnings) in spans.iter().enumerate().zip(&mut warnings) {
        if seen.insert(span.id) {
            by_id.insert(span.id, (index, span));
        } else {
            warnings.push("duplicate span IDs; skipping clock skew adjustment".to_owned());
        }
    }
    let (mut children, mut roots) = (HashMap::<u64, Vec<usize>>::new(), Vec::new());
    for (index, span) in by_id.values() {
        match span.parent {
            Some(parent) if by_id.contains_key(&parent) => children.entry(parent).or_default().push(*index),
            parent => {
                roots.push(*index);
                if let (Some(parent), Some(warnings)) = (parent, warnings.get_mut(*index)) {
                    warnings.push(missing(parent));
                }
            }
        }
    }
    for (index, nanos) in skews(spans, &children, roots) {
        if let Some(warnings) = warnings.get_mut(index) {
            let delta = duration::text(nanos);
            warnings.push(format!("clock skew adjustment disabled; not applying calculated delta of {delta}"));
        }
    }
    warnings
}

/// From the roots down, without recursion, because a trace can be arbitrarily deep.
fn skews(spans: &[SpanTiming], children: &HashMap<u64, Vec<usize>>, roots: Vec<usize>) -> Vec<(usize, i64)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, Option<(&SpanTiming, Skew<'_>)>)> = roots.into_iter().map(|root| (root, None)).collect();
    while let Some((index, above)) = open.pop() {
        let Some(span) = spans.get(index) else { continue };
        let skew = match above {
            None => Skew { nanos: 0, host: &span.host },
            Some((_, skew)) if !span.host.is_empty() && span.host == skew.host => skew,
            Some((parent, _)) => Skew { nanos: difference(span, parent), host: &span.host },
        };
        if skew.nanos != 0 {
            found.push((index, skew.nanos));
        }
        let below = children.get(&span.id).map(Vec::as_slice).unwrap_or_default();
        open.extend(below.iter().map(|child| (*child, Some((span, skew)))));
    }
    found
}

/// The apparent clock difference of a child.
fn difference(child: &SpanTiming, parent: &SpanTiming) -> i64 {
    let (child_start, parent_start) = (child.start as i64, parent.start as i64);
    let (child_took, parent_took) = (child.duration as i64, parent.duration as i64);
    if child_took > parent_took {
        return parent_start.saturating_sub(child_start).max(0);
    }
    let ends_within = child_start.saturating_add(child_took) <= parent_start.saturating_add(parent_took);
    if child_start >= parent_start && ends_within {
        return 0;
    }
    parent_start.saturating_add((parent_took - child_took) / 2).saturating_sub(child_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(id: u64, parent: Option<u64>, start: u64, duration: u64, host: &str) -> SpanTiming {
        SpanTiming { id, parent, start, duration, host: host.to_owned() }
    }

    fn check(spans: &[SpanTiming]) -> Vec<Vec<String>> {
        warnings(spans, |parent| format!("no {parent}"))
    }

    #[test]
    fn spans_within_their_parents_have_no_warnings() {
        let spans = [timing(1, None, 100, 100, ""), timing(2, Some(1), 120, 50, ""), timing(3, Some(2), 130, 5, "")];
        assert_eq!(check(&spans), [[""; 0]; 3].map(|none| none.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_span_outside_of_its_parent_has_a_warning_with_the_difference() {
        let spans = [timing(1, None, 100, 100, ""), timing(2, Some(1), 50, 60, ""), timing(3, Some(1), 90, 200, "")];
        let text = |delta: &str| format!("clock skew adjustment disabled; not applying calculated delta of {delta}");
        assert_eq!(check(&spans), [vec![], vec![text("70ns")], vec![text("10ns")]]);
    }

    #[test]
    fn spans_of_the_same_host_share_a_clock() {
        let spans = [timing(1, None, 100, 100, "a"), timing(2, Some(1), 50, 60, "a"), timing(3, Some(2), 55, 5, "a")];
        assert!(check(&spans).concat().is_empty());
    }

    #[test]
    fn duplicate_ids_missing_parents_and_cycles_are_tolerated() {
        let spans = [timing(1, None, 0, 9, ""), timing(1, None, 0, 9, ""), timing(2, Some(7), 0, 9, "")];
        let duplicate = "duplicate span IDs; skipping clock skew adjustment".to_owned();
        assert_eq!(check(&spans), [vec![], vec![duplicate], vec!["no 7".to_owned()]]);
        assert!(
            check(&[timing(1, Some(2), 0, 9, ""), timing(2, Some(1), 50, 9, ""), timing(3, Some(3), 0, 1, "")])
                .concat()
                .is_empty()
        );
    }
}

//! A trace as an indented tree, for the terminal.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind};

use super::otlp::Value;
use super::plain::plain;
use super::segment::{Segment, Span, Status};

/// The column in which the kinds stand.
const KIND_COLUMN: usize = 62;
/// The most spans that are shown of one trace.
const LINES: usize = 500;
/// The deepest indentation. What is deeper stands below it.
const DEPTH: usize = 40;
/// The most characters of a name or a message that are shown.
const TEXT: usize = 120;

/// One span and the service that it is of.
type Node<'a> = (&'a Segment, &'a Span);

/// Renders the segments of one trace. Spans whose parents are elsewhere stand at the left.
pub fn render(segments: &[Arc<Segment>]) -> String {
    let mut nodes: Vec<Node<'_>> =
        segments.iter().flat_map(|segment| segment.spans.iter().map(move |span| (&**segment, span))).collect();
    nodes.sort_by_key(|(_, span)| span.start);
    let Some((segment, _)) = nodes.first() else { return String::new() };
    let services: BTreeSet<_> = nodes.iter().map(|(segment, _)| segment.resource.name()).collect();
    let (spans, of) = (counted(nodes.len(), "span"), counted(services.len(), "service"));
    let mut text = String::new();
    line(&mut text, format_args!("trace {} ({spans} in {of})", segment.trace_id));
    let width = services.iter().map(|name| name.len()).max().unwrap_or(0);
    for (node, depth) in in_order(&nodes).into_iter().take(LINES) {
        show(&mut text, node, depth, width);
    }
    if nodes.len() > LINES {
        line(&mut text, format_args!("  and {}", counted(nodes.len() - LINES, "more span")));
    }
    text
}

/// Each span before its children, with its depth. Guests decide how deep a tree is, so nothing here recurses.
fn in_order<'a>(nodes: &[Node<'a>]) -> Vec<(Node<'a>, usize)> {
    let ids: HashSet<SpanId> = nodes.iter().map(|(_, span)| span.span_id).collect();
    let mut children: HashMap<SpanId, Vec<Node<'a>>> = HashMap::new();
    let mut open: Vec<(Node<'a>, usize)> = Vec::new();
    // What is opened last comes first, so everything is opened from the end.
    for node in nodes.iter().rev() {
        if ids.contains(&node.1.parent) {
            children.entry(node.1.parent).or_default().push(*node);
        } else {
            open.push((*node, 0));
        }
    }
    let mut ordered = Vec::with_capacity(nodes.len());
    while let Some((node, depth)) = open.pop() {
        ordered.push((node, depth));
        let below = children.remove(&node.1.span_id).unwrap_or_default();
        open.extend(below.into_iter().map(|child| (child, depth + 1)));
    }
    ordered
}

fn show(text: &mut String, (segment, span): Node<'_>, depth: usize, width: usize) {
    let (service, name) = (segment.resource.name(), plain(&span.name, TEXT));
    let left = format!("{service:<width$}  {:indent$}{name}", "", indent = depth.min(DEPTH) * 2);
    let took = duration(span.duration);
    let failed = failure(span).unwrap_or_default();
    line(text, format_args!("  {left:<KIND_COLUMN$} {:<8} {took:>9}{failed}", kind(&span.kind)));
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{arguments}");
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

fn kind(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Server => "SERVER",
        SpanKind::Client => "CLIENT",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Internal => "INTERNAL",
    }
}

fn duration(duration: Duration) -> String {
    match duration.as_micros() {
        0..1_000 => format!("{} us", duration.as_micros()),
        1_000..1_000_000 => format!("{:.2} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}

fn failure(span: &Span) -> Option<String> {
    let Status::Error(message) = &span.status else { return None };
    let kind = match span.attributes.get("error.type") {
        Some(Value::Text(kind)) => plain(kind, TEXT),
        _ => "error".to_owned(),
    };
    let message = plain(message, TEXT);
    Some(if message.is_empty() { format!("  ERROR {kind}") } else { format!("  ERROR {kind}: {message}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::otlp::Attribute;
    use crate::trace::tests::{segment, span};

    fn tree(spans: Vec<Span>) -> String {
        render(&[Arc::new(segment("shop", 1, spans))])
    }

    #[test]
    fn children_stand_below_their_parents_in_order_of_time() {
        let mut late = span(4, 1, "late", SpanKind::Internal);
        late.start += Duration::from_millis(2);
        let mut spans = vec![span(1, 9, "GET /", SpanKind::Server), late, span(2, 1, "early", SpanKind::Internal)];
        spans.push(span(3, 2, "GET", SpanKind::Client));
        spans[3].status = Status::Error("it broke\nbadly".to_owned());
        spans[3].attributes = [Attribute::new("error.type", "timeout")].into_iter().collect();
        let text = tree(spans);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "trace 00000000000000000000000000000001 (4 spans in 1 service)",
                "shop GET / SERVER 1.00 ms",
                "shop early INTERNAL 1.00 ms",
                "shop GET CLIENT 1.00 ms ERROR timeout: it broke",
                "shop late INTERNAL 1.00 ms",
            ]
        );
    }

    #[test]
    fn a_guest_cannot_control_the_terminal() {
        assert!(!tree(vec![span(1, 0, "\u{1b}[2J\rname", SpanKind::Server)]).contains(['\u{1b}', '\r']));
    }

    #[test]
    fn a_deep_trace_is_cut_and_harmless() {
        let spans = (1..=100_000).map(|id| span(id, id - 1, "deeper", SpanKind::Internal)).collect();
        let text = tree(spans);
        assert_eq!(text.lines().count(), LINES + 2);
        assert!(text.ends_with("and 99500 more spans\n"));
    }

    #[test]
    fn spans_that_are_each_others_parents_do_no_harm() {
        assert_eq!(
            tree(vec![span(1, 2, "a", SpanKind::Internal), span(2, 1, "b", SpanKind::Internal)]).lines().count(),
            1
        );
    }
}

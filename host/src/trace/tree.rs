//! Renders a trace as an indented tree for the terminal.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind};

use super::cycle::first_of_cycles;
use super::detail::span_detail;
use super::otlp::Attribute;
use super::sanitize::sanitize_line;
use super::segment::{Segment, Span, Status};

/// The column of the span kind.
const KIND_COLUMN: usize = 62;
/// The most spans of one trace that are shown.
const MAX_SPANS: usize = 500;
/// The deepest indentation. Deeper spans are indented no further.
const MAX_DEPTH: usize = 40;
/// The most characters of a name that are shown.
const MAX_TEXT: usize = 120;
/// The most characters of an attribute's value, or of one of its lines, that are shown.
const MAX_VALUE: usize = 400;
/// The most events of a span, and the most lines of an attribute of an event, that are shown.
const MAX_EVENTS: usize = 100;
const MAX_LINES: usize = 100;

/// How much of each span is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TreeDetail {
    /// One line per span, with its status code and error.
    #[default]
    Line,
    /// In addition, the attributes and events of the span.
    Attributes,
}

/// A span with its segment.
type Node<'a> = (&'a Segment, &'a Span);

/// Renders the segments of one trace. Spans whose parents are missing are not indented. If parents form a cycle, its
/// earliest span is not indented.
pub fn render(segments: &[Arc<Segment>], detail: TreeDetail) -> String {
    let mut nodes: Vec<Node<'_>> =
        segments.iter().flat_map(|segment| segment.spans.iter().map(move |span| (&**segment, span))).collect();
    nodes.sort_by_key(|(_, span)| span.start);
    let Some((segment, _)) = nodes.first() else { return String::new() };
    let services: BTreeSet<_> = nodes.iter().map(|(segment, _)| segment.resource.name()).collect();
    let (spans, of) = (counted(nodes.len(), "span"), counted(services.len(), "service"));
    let mut text = String::new();
    line(&mut text, format_args!("trace {} ({spans} in {of})", segment.trace_id));
    let width = services.iter().map(|name| name.len()).max().unwrap_or(0);
    for (node, depth) in in_order(&nodes).into_iter().take(MAX_SPANS) {
        show(&mut text, node, depth, width);
        if detail == TreeDetail::Attributes {
            let indent = width + 6 + depth.min(MAX_DEPTH) * 2;
            show_attributes(&mut text, node, indent);
            show_events(&mut text, node.1, indent);
        }
    }
    if nodes.len() > MAX_SPANS {
        line(&mut text, format_args!("  and {}", counted(nodes.len() - MAX_SPANS, "more span")));
    }
    text
}

/// All spans with their depth, parents before children. Guests control the depth, so the function does not recurse.
fn in_order<'a>(nodes: &[Node<'a>]) -> Vec<(Node<'a>, usize)> {
    let mut parents = parents(nodes);
    let first = first_of_cycles(&parents);
    first.iter().for_each(|at| parents[*at] = None);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    // The stack returns the last span first, so spans are pushed in reverse order. Cycles come after the other roots.
    let mut open: Vec<_> = first.iter().rev().map(|at| (*at, 0)).collect();
    for (at, parent) in parents.iter().enumerate().rev() {
        match parent {
            Some(parent) => children[*parent].push(at),
            None if first.binary_search(&at).is_err() => open.push((at, 0)),
            None => {}
        }
    }
    let mut ordered = Vec::with_capacity(nodes.len());
    while let Some((at, depth)) = open.pop() {
        ordered.push((nodes[at], depth));
        open.extend(children[at].iter().map(|child| (*child, depth + 1)));
    }
    ordered
}

/// The position of each span's parent. Of spans with the same id, the first one has the children.
fn parents(nodes: &[Node<'_>]) -> Vec<Option<usize>> {
    let mut positions: HashMap<SpanId, usize> = HashMap::new();
    for (at, (_, span)) in nodes.iter().enumerate() {
        positions.entry(span.span_id).or_insert(at);
    }
    nodes.iter().map(|(_, span)| positions.get(&span.parent).copied()).collect()
}

fn show(text: &mut String, (segment, span): Node<'_>, depth: usize, width: usize) {
    let (service, name) = (segment.resource.name(), sanitize_line(&span.name, MAX_TEXT));
    let left = format!("{service:<width$}  {:indent$}{name}", "", indent = depth.min(MAX_DEPTH) * 2);
    let took = duration(span.duration);
    let attribute = |key: &str| span.attributes.get(key).map(|value| value.to_string());
    let error = match &span.status {
        Status::Error(message) => Some(message.as_str()),
        Status::Unset | Status::Ok => None,
    };
    let detail = span_detail(&span.kind, attribute, error);
    let shown = format!("  {left:<KIND_COLUMN$} {:<8} {took:>9}  {detail}", kind(&span.kind));
    line(text, format_args!("{}", shown.trim_end()));
}

/// Shows the span's own attributes, then those shared by the whole request.
fn show_attributes(text: &mut String, (segment, span): Node<'_>, indent: usize) {
    let shared = segment.shared.iter().filter(|shared| !span.attributes.contains(shared.key));
    for Attribute { key, value } in span.attributes.iter().chain(shared) {
        let (key, value) = (sanitize_line(key, MAX_TEXT), sanitize_line(&value.to_string(), MAX_VALUE));
        line(text, format_args!("{:indent$}{key}={value}", ""));
    }
}

/// Shows the events of a span, each with its time since the start of the span, and below it its attributes. A value of
/// several lines, such as a stack trace, follows its key.
fn show_events(text: &mut String, span: &Span, indent: usize) {
    for event in span.events.iter().take(MAX_EVENTS) {
        let offset = duration(event.time.duration_since(span.start).unwrap_or_default());
        line(text, format_args!("{:indent$}{} (+{offset})", "", sanitize_line(&event.name, MAX_TEXT)));
        for Attribute { key, value } in event.attributes.iter() {
            let (key, value) = (sanitize_line(key, MAX_TEXT), value.to_string());
            if value.lines().count() <= 1 {
                line(text, format_args!("{:indent$}  {key}={}", "", sanitize_line(&value, MAX_VALUE)));
                continue;
            }
            line(text, format_args!("{:indent$}  {key}=", ""));
            for part in value.lines().take(MAX_LINES) {
                line(text, format_args!("{:indent$}    {}", "", sanitize_line(part, MAX_VALUE)));
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::segment::Event;
    use crate::trace::tests::{segment, span};

    fn tree(spans: Vec<Span>) -> String {
        render(&[Arc::new(segment("shop", 1, spans))], TreeDetail::Line)
    }

    #[test]
    fn children_follow_their_parents_in_order_of_time() {
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
    fn attributes_are_shown_below_their_span_if_selected() {
        let attributes = [Attribute::new("http.response.status_code", 200), Attribute::new("b", "x\ny")];
        let mut root = span(1, 0, "GET /", SpanKind::Server);
        root.attributes = attributes.into_iter().collect();
        let mut segment = segment("shop", 1, vec![root, span(2, 1, "inner", SpanKind::Internal)]);
        segment.shared = [Attribute::new("b", "hidden"), Attribute::new("user.id", "1")].into_iter().collect();
        let text = render(&[Arc::new(segment)], TreeDetail::Attributes);
        let lines: Vec<_> = text.lines().skip(1).map(str::trim_end).collect();
        assert!(lines[0].ends_with("SERVER     1.00 ms  200"), "{text}");
        let attributes = ["http.response.status_code=200", "b=x", "user.id=1"].map(|line| format!("{:10}{line}", ""));
        assert_eq!(lines[1..4], attributes);
        assert_eq!(lines[5..], ["b=hidden", "user.id=1"].map(|line| format!("{:12}{line}", "")));
    }

    #[test]
    fn events_are_shown_below_the_attributes_with_their_stack_trace() {
        let mut root = span(1, 0, "GET /", SpanKind::Server);
        root.attributes = [Attribute::new("a", 1)].into_iter().collect();
        let attributes = [
            Attribute::new("exception.type", "wasm trap"),
            Attribute::new("exception.stacktrace", "at f\n\u{1b}at g\n"),
        ];
        let time = root.start + Duration::from_micros(20);
        let attributes = attributes.into_iter().collect();
        root.events = vec![Event { name: "exception".into(), time, attributes, dropped_attributes: 0 }];
        let text = render(&[Arc::new(segment("shop", 1, vec![root]))], TreeDetail::Attributes);
        let lines: Vec<_> = text.lines().skip(2).collect();
        let expected = [
            "a=1",
            "exception (+20 us)",
            "  exception.type=wasm trap",
            "  exception.stacktrace=",
            "    at f",
            "    \u{fffd}at g",
        ];
        assert_eq!(lines, expected.map(|line| format!("{:10}{line}", "")));
    }

    #[test]
    fn a_guest_cannot_control_the_terminal() {
        assert!(!tree(vec![span(1, 0, "\u{1b}[2J\rname", SpanKind::Server)]).contains(['\u{1b}', '\r']));
    }

    #[test]
    fn a_deep_trace_is_truncated() {
        let spans = (1..=100_000).map(|id| span(id, id - 1, "deeper", SpanKind::Internal)).collect();
        let text = tree(spans);
        assert_eq!(text.lines().count(), MAX_SPANS + 2);
        assert!(text.ends_with("and 99500 more spans\n"));
    }

    #[test]
    fn cycles_of_parents_follow_the_other_spans_from_their_earliest_span() {
        let at = |milliseconds: u64, mut span: Span| {
            span.start += Duration::from_millis(milliseconds);
            span
        };
        let text = tree(vec![
            at(2, span(2, 3, "a", SpanKind::Internal)),
            at(1, span(3, 2, "b", SpanKind::Internal)),
            at(0, span(4, 3, "below b", SpanKind::Internal)),
            at(3, span(1, 9, "GET /", SpanKind::Server)),
            at(4, span(5, 7, "c", SpanKind::Internal)),
            at(5, span(6, 5, "d", SpanKind::Internal)),
            at(6, span(7, 6, "e", SpanKind::Internal)),
            at(7, span(8, 8, "own parent", SpanKind::Internal)),
        ]);
        let names: Vec<_> = text.lines().skip(1).map(|line| line[8..KIND_COLUMN].trim_end()).collect();
        assert_eq!(names, ["GET /", "b", "  below b", "  a", "c", "  d", "    e", "own parent"]);
    }

    #[test]
    fn a_long_cycle_of_parents_is_shown() {
        let spans = (1..=100).map(|id| span(id, if id == 1 { 100 } else { id - 1 }, "deeper", SpanKind::Internal));
        assert_eq!(tree(spans.collect()).lines().count(), 101);
    }
}

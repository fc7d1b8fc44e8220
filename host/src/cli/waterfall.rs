//! A trace as text: the tree of its spans with bars for when they ran.

use std::time::Duration;

use crate::console::units;
use crate::console::{Kind, Node, Span, Trace, Value, find};
use crate::printable::printable;
use crate::trace::{SpanKind, span_detail};

/// The most spans that are shown.
const LINES: usize = 500;
/// The deepest indentation. What is deeper stands below it.
const DEPTH: usize = 24;
/// Columns of a bar.
const BAR: usize = 32;
/// Columns for service, indentation and name together.
const LEFT: usize = 64;
/// The most characters of an attribute's value.
const VALUE: usize = 400;

/// One span of the text.
pub(super) struct Line {
    /// Service, indentation and name, padded.
    pub left: String,
    /// When it ran, on the time line of the whole trace.
    pub bar: String,
    pub took: String,
    /// How it was answered, where the request went, and what failed.
    pub detail: String,
    pub failed: bool,
}

/// What is known of the trace as a whole, on one line.
pub(super) fn head(trace: &Trace) -> String {
    let (spans, services, errors) = (trace.nodes.len(), trace.services().len(), trace.errors());
    let mut head = format!(
        "trace {}: {}, {} in {}",
        printable(&trace.id),
        units::duration(trace.duration),
        units::counted(spans, "span"),
        units::counted(services, "service"),
    );
    if errors > 0 {
        head.push_str(&format!(", {}", units::counted(errors, "error")));
    }
    head
}

/// The spans in order.
pub(super) fn lines(trace: &Trace) -> Vec<Line> {
    let width = trace.services().iter().map(|name| printable(name).chars().count()).max().unwrap_or(0);
    let mut lines: Vec<_> = trace.nodes.iter().take(LINES).map(|node| line(trace, node, width)).collect();
    if trace.nodes.len() > LINES {
        let left = format!("and {}", units::counted(trace.nodes.len() - LINES, "more span"));
        let nothing = String::new;
        lines.push(Line { left, bar: nothing(), took: nothing(), detail: nothing(), failed: false });
    }
    lines
}

/// The whole text; with all attributes of each span below it, where they are asked for.
pub(super) fn text(trace: &Trace, attributes: bool) -> String {
    let mut text = format!("{}\n", head(trace));
    let nodes = trace.nodes.iter().take(LINES).map(Some).chain([None]);
    for (Line { left, bar, took, detail, .. }, node) in lines(trace).into_iter().zip(nodes) {
        text.push_str(format!("  {left} {bar} {took:>9}  {detail}").trim_end());
        text.push('\n');
        if let Some(node) = node.filter(|_| attributes) {
            text.extend(attribute_lines(node));
        }
    }
    text
}

fn attribute_lines(node: &Node) -> impl Iterator<Item = String> {
    let indent = 6 + node.depth.min(DEPTH) * 2;
    node.span.attributes.iter().map(move |attribute| {
        let value: String = attribute.value.to_string().chars().take(VALUE).collect();
        format!("{:indent$}{}={}\n", "", printable(&attribute.key), printable(&value))
    })
}

fn line(trace: &Trace, node: &Node, width: usize) -> Line {
    let span = &node.span;
    let indent = node.depth.min(DEPTH) * 2;
    let mut left = format!("{:<width$}  {:indent$}{}", printable(&span.service), "", printable(&span.name));
    if left.chars().count() > LEFT {
        left = left.chars().take(LEFT - 1).chain(['…']).collect();
    }
    let (bar, took) = (bar(trace.duration, node), units::duration(span.duration));
    Line { left: format!("{left:<LEFT$}"), bar, took, detail: detail(span), failed: span.error.is_some() }
}

/// Where a span lies in its trace. Every span has at least one column.
fn bar(whole: Duration, node: &Node) -> String {
    let column = |time: Duration| (time.as_secs_f64() / whole.as_secs_f64().max(1e-9) * BAR as f64).round() as usize;
    let from = column(node.offset).min(BAR - 1);
    let to = column(node.end()).clamp(from + 1, BAR);
    let on_path = if node.critical.is_empty() { '─' } else { '━' };
    (0..BAR).map(|at| if (from..to).contains(&at) { on_path } else { ' ' }).collect()
}

fn detail(span: &Span) -> String {
    let kind = match span.kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
        Kind::Internal => SpanKind::Internal,
    };
    let attribute = |key: &str| find(&span.attributes, key).map(Value::to_string);
    printable(&span_detail(&kind, attribute, span.error.as_deref())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Attribute;
    use crate::console::sample::{span, trace};

    #[test]
    fn spans_stand_below_their_parents_with_bars_of_when_they_ran() {
        let mut late = span(2, 1, "product", "late", 50, 100);
        late.error = Some("it broke\nbadly".to_owned());
        let text = text(&trace(vec![span(1, 0, "user", "root", 0, 100), late]), false);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(": 100 ms, 2 spans in 2 services, 1 error"), "{text}");
        assert!(lines[1].contains("user     root") && lines[1].contains(&"━".repeat(BAR)), "{text}");
        assert!(lines[2].contains("product    late") && lines[2].ends_with("ERROR: it broke"), "{text}");
        assert!(lines[2].contains(&format!("{}{}", " ".repeat(BAR / 2), "━".repeat(BAR / 2))), "{text}");
    }

    #[test]
    fn a_guest_cannot_control_the_terminal() {
        let mut hostile = span(1, 0, "a\u{1b}[2J", "\u{9b}31m\r\u{7}name", 0, 1);
        hostile.error = Some("\u{1b}]0;title\u{7}".to_owned());
        let text = text(&trace(vec![hostile]), true);
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    }

    #[test]
    fn a_large_trace_is_cut() {
        let text = text(&trace((1..=2000).map(|id| span(id, id - 1, "s", "deeper", 0, 2000)).collect()), false);
        assert_eq!(text.lines().count(), LINES + 2);
        assert!(text.ends_with("and 1\u{202f}500 more spans\n"));
    }

    #[test]
    fn answers_addresses_and_all_attributes_are_shown() {
        let attribute =
            |key: &str, value: &str| Attribute { key: key.to_owned(), value: Value::Text(value.to_owned()) };
        let mut root = span(1, 0, "user", "GET", 0, 100);
        root.kind = Kind::Server;
        root.attributes = vec![attribute("http.response.status_code", "404"), attribute("url.path", "/nope\u{202e}")];
        let inner = span(2, 1, "user", "inner", 0, 1);
        let trace = trace(vec![root, inner]);
        assert!(text(&trace, false).lines().nth(1).unwrap().ends_with("404  /nope\u{fffd}"), "{}", text(&trace, false));
        let whole = text(&trace, true);
        let below: Vec<_> = whole.lines().skip(2).take(2).collect();
        assert_eq!(below, ["      http.response.status_code=404", "      url.path=/nope\u{fffd}"]);
    }
}

//! Formats a trace as text: the tree of its spans, with a bar per span on the timeline of the trace.

use std::time::Duration;

use crate::console::units;
use crate::console::{AttributeModel, SpanKindModel, SpanModel, TraceModel, TreeNode, ValueModel, find};
use crate::printable::printable;
use crate::trace::{SpanKind, span_detail};

/// The largest number of spans shown.
const MAX_SPANS: usize = 500;
/// The deepest indentation. Deeper spans are not indented further.
const MAX_DEPTH: usize = 24;
/// The width of a bar in columns.
const BAR_WIDTH: usize = 32;
/// The width of service, indentation and name together, in columns.
const LABEL_WIDTH: usize = 64;
/// The largest number of characters of an attribute's value.
const MAX_VALUE: usize = 400;
/// The most events of a span, and the most lines of an attribute of an event, that are shown.
const MAX_EVENTS: usize = 100;
const MAX_LINES: usize = 100;

/// The line of one span.
pub(super) struct Line {
    /// Service, indentation and name, padded.
    pub label: String,
    /// The bar on the timeline of the trace.
    pub bar: String,
    pub took: String,
    /// The response status, the target of the request and the error.
    pub detail: String,
    pub failed: bool,
}

/// The summary of the trace on one line.
pub(super) fn head(trace: &TraceModel) -> String {
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

/// The lines of the spans, in tree order.
pub(super) fn lines(trace: &TraceModel) -> Vec<Line> {
    let width = trace.services().iter().map(|name| printable(name).chars().count()).max().unwrap_or(0);
    let mut lines: Vec<_> = trace.nodes.iter().take(MAX_SPANS).map(|node| line(trace, node, width)).collect();
    if trace.nodes.len() > MAX_SPANS {
        let label = format!("and {}", units::counted(trace.nodes.len() - MAX_SPANS, "more span"));
        let nothing = String::new;
        lines.push(Line { label, bar: nothing(), took: nothing(), detail: nothing(), failed: false });
    }
    lines
}

/// The complete text. With `attributes`, all attributes and events of each span follow its line.
pub(super) fn text(trace: &TraceModel, attributes: bool) -> String {
    let mut text = format!("{}\n", head(trace));
    let nodes = trace.nodes.iter().take(MAX_SPANS).map(Some).chain([None]);
    for (Line { label, bar, took, detail, .. }, node) in lines(trace).into_iter().zip(nodes) {
        text.push_str(format!("  {label} {bar} {took:>9}  {detail}").trim_end());
        text.push('\n');
        if let Some(node) = node.filter(|_| attributes) {
            text.extend(attribute_lines(node));
            text.extend(event_lines(node));
        }
    }
    text
}

fn attribute_lines(node: &TreeNode) -> impl Iterator<Item = String> {
    let indent = indent_below(node);
    node.span.attributes.iter().map(move |attribute| {
        let value: String = attribute.value.to_string().chars().take(MAX_VALUE).collect();
        format!("{:indent$}{}={}\n", "", printable(&attribute.key), printable(&value))
    })
}

/// The events of a span, each with its time since the start of the span, and below it its attributes.
fn event_lines(node: &TreeNode) -> impl Iterator<Item = String> {
    let indent = indent_below(node);
    node.span.events.iter().take(MAX_EVENTS).flat_map(move |event| {
        let offset = units::duration(event.time.duration_since(node.span.start).unwrap_or_default());
        let head = format!("{:indent$}{} (+{offset})\n", "", printable(&event.name));
        let attributes = event.attributes.iter();
        [head].into_iter().chain(attributes.flat_map(move |attribute| event_attribute_lines(attribute, indent + 2)))
    })
}

/// An attribute of an event. A value of several lines, such as a stack trace, follows its key.
fn event_attribute_lines(attribute: &AttributeModel, indent: usize) -> Vec<String> {
    let (key, value) = (printable(&attribute.key), attribute.value.to_string());
    let shown = |line: &str| printable(&line.chars().take(MAX_VALUE).collect::<String>()).into_owned();
    if value.lines().count() <= 1 {
        return vec![format!("{:indent$}{key}={}\n", "", shown(&value))];
    }
    let lines = value.lines().take(MAX_LINES).map(|line| format!("{:indent$}  {}\n", "", shown(line)));
    [format!("{:indent$}{key}=\n", "")].into_iter().chain(lines).collect()
}

fn indent_below(node: &TreeNode) -> usize {
    6 + node.depth.min(MAX_DEPTH) * 2
}

fn line(trace: &TraceModel, node: &TreeNode, width: usize) -> Line {
    let span = &node.span;
    let indent = node.depth.min(MAX_DEPTH) * 2;
    let mut label = format!("{:<width$}  {:indent$}{}", printable(&span.service), "", printable(&span.name));
    if label.chars().count() > LABEL_WIDTH {
        label = label.chars().take(LABEL_WIDTH - 1).chain(['…']).collect();
    }
    let (bar, took) = (bar(trace.duration, node), units::duration(span.duration));
    Line { label: format!("{label:<LABEL_WIDTH$}"), bar, took, detail: detail(span), failed: span.error.is_some() }
}

/// The bar of a span on the timeline of its trace: at least one column wide.
fn bar(whole: Duration, node: &TreeNode) -> String {
    let column =
        |time: Duration| (time.as_secs_f64() / whole.as_secs_f64().max(1e-9) * BAR_WIDTH as f64).round() as usize;
    let from = column(node.offset).min(BAR_WIDTH - 1);
    let to = column(node.end()).clamp(from + 1, BAR_WIDTH);
    let on_path = if node.critical.is_empty() { '─' } else { '━' };
    (0..BAR_WIDTH).map(|at| if (from..to).contains(&at) { on_path } else { ' ' }).collect()
}

fn detail(span: &SpanModel) -> String {
    let kind = match span.kind {
        SpanKindModel::Server => SpanKind::Server,
        SpanKindModel::Client => SpanKind::Client,
        SpanKindModel::Producer => SpanKind::Producer,
        SpanKindModel::Consumer => SpanKind::Consumer,
        SpanKindModel::Internal => SpanKind::Internal,
    };
    let attribute = |key: &str| find(&span.attributes, key).map(ValueModel::to_string);
    printable(&span_detail(&kind, attribute, span.error.as_deref())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Event;
    use crate::console::sample::{span, trace};

    #[test]
    fn spans_follow_their_parents_with_bars_on_the_timeline() {
        let mut late = span(2, 1, "product", "late", 50, 100);
        late.error = Some("it broke\nbadly".to_owned());
        let text = text(&trace(vec![span(1, 0, "user", "root", 0, 100), late]), false);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(": 100 ms, 2 spans in 2 services, 1 error"), "{text}");
        assert!(lines[1].contains("user     root") && lines[1].contains(&"━".repeat(BAR_WIDTH)), "{text}");
        assert!(lines[2].contains("product    late") && lines[2].ends_with("ERROR: it broke"), "{text}");
        assert!(lines[2].contains(&format!("{}{}", " ".repeat(BAR_WIDTH / 2), "━".repeat(BAR_WIDTH / 2))), "{text}");
    }

    #[test]
    fn control_characters_from_guests_become_visible() {
        let mut hostile = span(1, 0, "a\u{1b}[2J", "\u{9b}31m\r\u{7}name", 0, 1);
        hostile.error = Some("\u{1b}]0;title\u{7}".to_owned());
        let text = text(&trace(vec![hostile]), true);
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    }

    #[test]
    fn events_are_shown_below_the_attributes_with_their_stack_trace() {
        let attribute =
            |key: &str, value: &str| AttributeModel { key: key.to_owned(), value: ValueModel::Text(value.to_owned()) };
        let mut failed = span(1, 0, "user", "GET", 0, 100);
        failed.attributes = vec![attribute("a", "b")];
        let attributes =
            vec![attribute("exception.type", "panic\u{1b}"), attribute("exception.stacktrace", "0: first\n1: second")];
        let time = failed.start + Duration::from_millis(3);
        failed.events = vec![Event { name: "exception".to_owned(), time, attributes }];
        let trace = trace(vec![failed]);
        let offset = units::duration(Duration::from_millis(3));
        let whole = text(&trace, true);
        let expected = format!(
            "      a=b\n      exception (+{offset})\n        exception.type=panic\u{241b}\n        \
             exception.stacktrace=\n          0: first\n          1: second\n"
        );
        assert!(whole.ends_with(&expected), "{whole}");
        assert!(!text(&trace, false).contains("exception"));
    }

    #[test]
    fn the_number_of_shown_spans_is_bounded() {
        let text = text(&trace((1..=2000).map(|id| span(id, id - 1, "s", "deeper", 0, 2000)).collect()), false);
        assert_eq!(text.lines().count(), MAX_SPANS + 2);
        assert!(text.ends_with("and 1\u{202f}500 more spans\n"));
    }

    #[test]
    fn statuses_paths_and_optionally_all_attributes_are_shown() {
        let attribute =
            |key: &str, value: &str| AttributeModel { key: key.to_owned(), value: ValueModel::Text(value.to_owned()) };
        let mut root = span(1, 0, "user", "GET", 0, 100);
        root.kind = SpanKindModel::Server;
        root.attributes = vec![attribute("http.response.status_code", "404"), attribute("url.path", "/nope\u{202e}")];
        let inner = span(2, 1, "user", "inner", 0, 1);
        let trace = trace(vec![root, inner]);
        assert!(text(&trace, false).lines().nth(1).unwrap().ends_with("404  /nope\u{fffd}"), "{}", text(&trace, false));
        let whole = text(&trace, true);
        let below: Vec<_> = whole.lines().skip(2).take(2).collect();
        assert_eq!(below, ["      http.response.status_code=404", "      url.path=/nope\u{fffd}"]);
    }
}

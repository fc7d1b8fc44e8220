//! A trace as an indented tree, for the terminal.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Value;
use opentelemetry::trace::{SpanId, SpanKind};

use super::segment::{Segment, Span, Status};

/// The column in which the kinds stand.
const KIND_COLUMN: usize = 62;

/// One span and the service that it is of.
type Node<'a> = (&'a Segment, &'a Span);

/// Renders the segments of one trace. Spans whose parents are elsewhere stand at the left.
pub fn render(segments: &[Arc<Segment>]) -> String {
    let mut nodes: Vec<Node<'_>> =
        segments.iter().flat_map(|segment| segment.spans.iter().map(move |span| (&**segment, span))).collect();
    nodes.sort_by_key(|(_, span)| span.start);
    let ids: std::collections::HashSet<SpanId> = nodes.iter().map(|(_, span)| span.span_id).collect();
    let mut children: HashMap<SpanId, Vec<Node<'_>>> = HashMap::new();
    let mut roots = Vec::new();
    for node in &nodes {
        match ids.contains(&node.1.parent) {
            true => children.entry(node.1.parent).or_default().push(*node),
            false => roots.push(*node),
        }
    }
    let services: std::collections::BTreeSet<_> = nodes.iter().map(|(segment, _)| segment.source.name()).collect();
    let mut text = String::new();
    if let Some((segment, _)) = nodes.first() {
        let (spans, services) = (nodes.len(), services.len());
        let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        line(
            &mut text,
            format_args!("trace {} ({} in {})", segment.trace_id, of(spans, "span"), of(services, "service")),
        );
    }
    let width = services.iter().map(|name| name.len()).max().unwrap_or(0);
    for root in roots {
        branch(&mut text, root, 0, width, &children);
    }
    text
}

fn branch(text: &mut String, node: Node<'_>, depth: usize, width: usize, children: &HashMap<SpanId, Vec<Node<'_>>>) {
    let (segment, span) = node;
    let left = format!("{:<width$}  {:indent$}{}", segment.source.name(), "", span.name, indent = depth * 2);
    let took = duration(span.duration);
    let failed = failure(span).unwrap_or_default();
    line(text, format_args!("  {left:<KIND_COLUMN$} {:<8} {took:>9}{failed}", kind(&span.kind)));
    for child in children.get(&span.span_id).into_iter().flatten() {
        branch(text, *child, depth + 1, width, children);
    }
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
    let kind = span.attributes.iter().find(|attribute| attribute.key.as_str() == "error.type");
    let kind = match kind.map(|attribute| &attribute.value) {
        Some(Value::String(kind)) => kind.as_str().to_owned(),
        _ => "error".to_owned(),
    };
    let message = message.lines().next().unwrap_or_default();
    Some(if message.is_empty() { format!("  ERROR {kind}") } else { format!("  ERROR {kind}: {message}") })
}

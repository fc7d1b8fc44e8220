//! The spans of one trace as a tree, in the form of indented text without ids and times.
//!
//! A line is `service name KIND`, followed by ` ERROR` if the status is one, and by the requested attributes. The order
//! of siblings is ignored: both sides of a comparison are sorted.

use std::collections::{BTreeMap, HashSet};

use crate::diff;
use crate::span::Span;

/// The spans of one trace.
#[derive(Clone, Debug)]
pub struct SpanTree {
    spans: Vec<Span>,
}

/// A line of the text, and the lines indented below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    line: String,
    children: Vec<Node>,
}

impl SpanTree {
    /// The tree of these spans. A span whose parent is not among them is a root.
    pub fn new(spans: Vec<Span>) -> SpanTree {
        SpanTree { spans }
    }

    /// All spans, in unspecified order.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The spans whose parent is not among the others.
    pub fn roots(&self) -> Vec<&Span> {
        let known: HashSet<_> = self.spans.iter().map(|span| &span.span_id).collect();
        self.spans.iter().filter(|span| span.parent.as_ref().is_none_or(|parent| !known.contains(parent))).collect()
    }

    /// The children of a span.
    pub fn children(&self, parent: &Span) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.parent.as_deref() == Some(&parent.span_id)).collect()
    }

    /// The parent of a span, if it is in the tree.
    pub fn parent(&self, child: &Span) -> Option<&Span> {
        let id = child.parent.as_deref()?;
        self.spans.iter().find(|span| span.span_id == id)
    }

    /// All spans with this name.
    pub fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// The only span with this name. Panics if there is none or more than one.
    #[track_caller]
    pub fn one(&self, name: &str) -> &Span {
        let found = self.named(name);
        assert_eq!(found.len(), 1, "spans named `{name}` in\n{}", self.text(&[]));
        found[0]
    }

    /// The only span with this line of service, name and kind, such as `user-service GET CLIENT`.
    #[track_caller]
    pub fn line(&self, line: &str) -> &Span {
        let found: Vec<_> = self.spans.iter().filter(|span| span.to_string() == line).collect();
        assert_eq!(found.len(), 1, "spans `{line}` in\n{}", self.text(&[]));
        found[0]
    }

    /// The tree as text. Each line has those of the attributes `show` that its span has.
    pub fn text(&self, show: &[&str]) -> String {
        text_of(&self.nodes(show))
    }

    /// Panics with the difference unless the tree equals the expected one, except for the order of siblings.
    #[track_caller]
    pub fn assert_text(&self, show: &[&str], expected: &str) {
        let expected = text_of(&parse(expected));
        let difference = diff::lines(&expected, &self.text(show));
        assert!(difference.is_empty(), "the trace is not the expected one:\n{difference}");
    }

    fn nodes(&self, show: &[&str]) -> Vec<Node> {
        let mut by_parent: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in &self.spans {
            by_parent.entry(span.parent.as_deref().unwrap_or_default()).or_default().push(span);
        }
        sorted(self.roots().into_iter().map(|root| node(root, &by_parent, show)).collect())
    }
}

fn node(span: &Span, by_parent: &BTreeMap<&str, Vec<&Span>>, show: &[&str]) -> Node {
    let children = by_parent.get(span.span_id.as_str()).into_iter().flatten();
    let children = children.map(|child| node(child, by_parent, show)).collect();
    Node { line: line(span, show), children: sorted(children) }
}

fn line(span: &Span, show: &[&str]) -> String {
    let mut line = span.to_string();
    if span.is_error() {
        line.push_str(" ERROR");
    }
    for key in show {
        match span.attributes.get(*key) {
            Some(serde_json::Value::String(text)) => line.push_str(&format!(" {key}={text}")),
            Some(value) => line.push_str(&format!(" {key}={value}")),
            None => {}
        }
    }
    line
}

fn sorted(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort();
    nodes
}

fn text_of(nodes: &[Node]) -> String {
    fn write(nodes: &[Node], depth: usize, text: &mut String) {
        for node in nodes {
            text.push_str(&format!("{:indent$}{}\n", "", node.line, indent = depth * 2));
            write(&node.children, depth + 1, text);
        }
    }
    let mut text = String::new();
    write(nodes, 0, &mut text);
    text
}

/// Parses indented text. A level is two spaces; the first line is at level 0.
fn parse(text: &str) -> Vec<Node> {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let base = lines.first().map_or(0, |line| indent(line));
    let lines: Vec<_> = lines.iter().map(|line| ((indent(line) - base) / 2, line.trim())).collect();
    parse_level(&lines, 0)
}

fn parse_level(lines: &[(usize, &str)], depth: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut rest = lines;
    while let Some(((_, line), after)) = rest.split_first() {
        let inside = after.iter().take_while(|(level, _)| *level > depth).count();
        let (children, next) = after.split_at(inside);
        nodes.push(Node { line: (*line).to_owned(), children: parse_level(children, depth + 1) });
        rest = next;
    }
    sorted(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{Kind, Outcome};

    fn span(id: &str, parent: Option<&str>, name: &str) -> Span {
        Span {
            service: "shop".to_owned(),
            resource: Default::default(),
            scope: String::new(),
            trace_id: "1".repeat(32),
            span_id: id.to_owned(),
            parent: parent.map(str::to_owned),
            trace_state: String::new(),
            flags: 1,
            name: name.to_owned(),
            kind: Kind::Internal,
            attributes: [("n".to_owned(), serde_json::json!(id))].into(),
            events: Vec::new(),
            links: Vec::new(),
            outcome: Outcome::Unset,
            start: 0,
            end: 0,
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
        }
    }

    fn tree() -> SpanTree {
        SpanTree::new(vec![
            span("4", Some("2"), "d"),
            span("3", Some("1"), "c"),
            span("2", Some("1"), "b"),
            span("1", Some("elsewhere"), "a"),
        ])
    }

    #[test]
    fn a_tree_is_the_same_whatever_the_order_of_siblings() {
        tree().assert_text(
            &[],
            "
            shop a INTERNAL
              shop c INTERNAL
              shop b INTERNAL
                shop d INTERNAL
            ",
        );
    }

    #[test]
    fn attributes_are_shown_where_asked_for() {
        assert!(tree().text(&["n", "other"]).contains("shop d INTERNAL n=4\n"));
    }

    #[test]
    #[should_panic(expected = "+     shop d INTERNAL")]
    fn a_span_too_many_is_shown() {
        tree().assert_text(&[], "shop a INTERNAL\n  shop b INTERNAL\n  shop c INTERNAL\n");
    }

    #[test]
    fn relations_are_found_by_name() {
        let tree = tree();
        assert_eq!(tree.parent(tree.one("d")).map(|span| span.name.as_str()), Some("b"));
        assert_eq!(tree.children(tree.one("a")).len(), 2);
        assert_eq!(tree.roots().len(), 1);
    }
}

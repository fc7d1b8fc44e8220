//! A trace as a tree: order, depth, self time and critical path.
//!
//! Guests and clients control the parents of spans, so nothing here recurses, and parents may be missing. If parents form
//! a cycle, its earliest span counts as a root.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::model::{AttributeModel, LogModel, SpanKindModel, SpanModel, find};
use crate::trace::first_of_cycles;

/// A trace with its spans in tree order: each before its children, siblings by start time.
#[derive(Clone, Debug)]
pub(crate) struct TraceModel {
    pub id: String,
    pub start: SystemTime,
    pub duration: Duration,
    pub nodes: Vec<TreeNode>,
    /// Sorted by time.
    pub logs: Vec<LogModel>,
}

/// A span with its position in the tree.
#[derive(Clone, Debug)]
pub(crate) struct TreeNode {
    pub span: SpanModel,
    pub depth: usize,
    /// The index of the parent in the list.
    pub parent: Option<usize>,
    /// The number of descendants.
    pub descendants: usize,
    /// Relative to the start of the trace.
    pub offset: Duration,
    /// The time in which none of its children ran.
    pub self_time: Duration,
    /// The intervals of the critical path on this span, as offsets from the start of the trace.
    pub critical: Vec<(Duration, Duration)>,
}

impl TreeNode {
    /// Its end, relative to the start of the trace.
    pub fn end(&self) -> Duration {
        self.offset + self.span.duration
    }
}

impl TraceModel {
    /// Builds the tree of a trace. Of spans with the same id only the first is used.
    pub fn new(id: String, mut spans: Vec<SpanModel>, mut logs: Vec<LogModel>) -> TraceModel {
        let mut seen = HashSet::new();
        spans.retain(|span| seen.insert(span.id.clone()));
        let start = spans.iter().map(|span| span.start).min().unwrap_or(UNIX_EPOCH);
        let mut nodes = in_order(spans, start);
        count_descendants(&mut nodes);
        let children = children(&nodes);
        self_times(&mut nodes, &children);
        mark_critical_path(&mut nodes, &children);
        let duration = nodes.iter().map(TreeNode::end).max().unwrap_or_default();
        logs.sort_by_key(|log| log.time);
        TraceModel { id, start, duration, nodes, logs }
    }

    /// The earliest span whose parent is not in the trace. If there is none, the earliest span of a cycle of parents.
    pub fn root(&self) -> Option<&SpanModel> {
        self.nodes.first().map(|node| &node.span)
    }

    /// The names of the services, sorted.
    pub fn services(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.nodes.iter().map(|node| node.span.service.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The number of failed spans.
    pub fn errors(&self) -> usize {
        self.nodes.iter().filter(|node| node.span.error.is_some()).count()
    }

    /// The server span of a node: itself or the nearest ancestor of the same service that is one.
    pub fn server_of<'a>(&'a self, node: &'a TreeNode) -> Option<&'a SpanModel> {
        let mut at = node;
        loop {
            if at.span.kind == SpanKindModel::Server {
                return Some(&at.span);
            }
            at = self.nodes.get(at.parent?).filter(|parent| parent.span.service == node.span.service)?;
        }
    }

    /// An attribute of the server span that a node belongs to.
    pub fn server_attribute<'a>(&'a self, node: &'a TreeNode, key: &str) -> Option<&'a super::model::ValueModel> {
        let attributes: &[AttributeModel] = &self.server_of(node)?.attributes;
        find(attributes, key)
    }
}

fn in_order(mut spans: Vec<SpanModel>, start: SystemTime) -> Vec<TreeNode> {
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.duration)));
    let mut parents = parents(&spans);
    let first = first_of_cycles(&parents);
    first.iter().for_each(|at| parents[*at] = None);
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    // The stack returns the last span first, so spans are pushed in reverse order. Cycles come after the other roots.
    let mut open: Vec<_> = first.iter().rev().map(|at| (*at, 0, None)).collect();
    for (at, parent) in parents.iter().enumerate().rev() {
        match parent {
            Some(parent) => below[*parent].push(at),
            None if first.binary_search(&at).is_err() => open.push((at, 0, None)),
            None => {}
        }
    }
    let mut spans: Vec<_> = spans.into_iter().map(Some).collect();
    let mut nodes = Vec::with_capacity(spans.len());
    while let Some((at, depth, parent)) = open.pop() {
        let Some(span) = spans[at].take() else { continue };
        let position = nodes.len();
        open.extend(below[at].iter().map(|child| (*child, depth + 1, Some(position))));
        let offset = span.start.duration_since(start).unwrap_or_default();
        let (self_time, critical) = (span.duration, Vec::new());
        nodes.push(TreeNode { span, depth, parent, descendants: 0, offset, self_time, critical });
    }
    nodes
}

/// The position of each span's parent.
fn parents(spans: &[SpanModel]) -> Vec<Option<usize>> {
    let positions: HashMap<&str, usize> = spans.iter().enumerate().map(|(at, span)| (span.id.as_str(), at)).collect();
    let parent = |span: &SpanModel| span.parent.as_deref().and_then(|parent| positions.get(parent)).copied();
    spans.iter().map(parent).collect()
}

fn count_descendants(nodes: &mut [TreeNode]) {
    for at in (0..nodes.len()).rev() {
        if let Some(parent) = nodes[at].parent {
            nodes[parent].descendants += nodes[at].descendants + 1;
        }
    }
}

/// The children of each node, by start time.
fn children(nodes: &[TreeNode]) -> Vec<Vec<usize>> {
    let mut children = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        if let Some(parent) = node.parent {
            children[parent].push(at);
        }
    }
    children
}

fn self_times(nodes: &mut [TreeNode], children: &[Vec<usize>]) {
    for at in 0..nodes.len() {
        let (begin, end) = (nodes[at].offset, nodes[at].end());
        let (mut covered, mut until) = (Duration::ZERO, begin);
        for child in &children[at] {
            let (from, to) = (nodes[*child].offset.max(until), nodes[*child].end().min(end));
            if to > from {
                covered += to - from;
                until = to;
            }
        }
        nodes[at].self_time = nodes[at].span.duration.saturating_sub(covered);
    }
}

/// Walks backwards from the end of each root: the time belongs to the child that ended last, or else to the span
/// itself.
fn mark_critical_path(nodes: &mut [TreeNode], children: &[Vec<usize>]) {
    let Some(last) = nodes.iter().enumerate().filter(|(_, node)| node.parent.is_none()).max_by_key(|(_, n)| n.end())
    else {
        return;
    };
    let mut open = vec![(last.0, last.1.end())];
    while let Some((at, mut until)) = open.pop() {
        let begin = nodes[at].offset;
        let mut by_end = children[at].clone();
        by_end.sort_by_key(|child| std::cmp::Reverse(nodes[*child].end()));
        for child in by_end {
            let (from, to) = (nodes[child].offset.max(begin), nodes[child].end());
            if to > until || to <= from {
                continue;
            }
            if until > to {
                nodes[at].critical.push((to, until));
            }
            open.push((child, to));
            until = from;
        }
        if until > begin {
            nodes[at].critical.push((begin, until));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::console::pages::model::TraceRow;

    impl TraceModel {
        /// The trace as an entry of a list.
        pub fn row(&self) -> TraceRow {
            let count = |name: &str| self.nodes.iter().filter(|node| node.span.service == name).count();
            TraceRow {
                id: self.id.clone(),
                service: self.root().map(|span| span.service.clone()).unwrap_or_default(),
                name: self.root().map(|span| span.name.clone()).unwrap_or_default(),
                start: self.start,
                duration: self.duration,
                services: self.services().into_iter().map(|name| (name.to_owned(), count(name))).collect(),
                spans: self.nodes.len(),
                errors: self.errors(),
            }
        }
    }

    /// A span of `service` from `start` to `end` in milliseconds; `parent` 0 means none.
    pub fn span(id: u64, parent: u64, service: &str, name: &str, start: u64, end: u64) -> SpanModel {
        SpanModel {
            id: format!("{id:016x}"),
            parent: (parent > 0).then(|| format!("{parent:016x}")),
            service: service.to_owned(),
            name: name.to_owned(),
            kind: SpanKindModel::Internal,
            start: UNIX_EPOCH + Duration::from_millis(start),
            duration: Duration::from_millis(end - start),
            error: None,
            attributes: Vec::new(),
            dropped: 0,
            events: Vec::new(),
            links: Vec::new(),
            resource: Default::default(),
        }
    }

    pub fn trace(spans: Vec<SpanModel>) -> TraceModel {
        TraceModel::new("1".repeat(32), spans, Vec::new())
    }

    fn names(trace: &TraceModel) -> Vec<String> {
        trace.nodes.iter().map(|node| format!("{}{}", ".".repeat(node.depth), node.span.name)).collect()
    }

    fn critical(trace: &TraceModel) -> Vec<(String, u128)> {
        let time = |node: &TreeNode| node.critical.iter().map(|(from, to)| (*to - *from).as_millis()).sum();
        let on = trace.nodes.iter().filter(|node| !node.critical.is_empty());
        on.map(|node| (node.span.name.clone(), time(node))).collect()
    }

    #[test]
    fn children_follow_their_parents_in_the_order_of_start_times() {
        let trace = trace(vec![
            span(4, 1, "s", "late", 50, 60),
            span(1, 9, "s", "root", 0, 100),
            span(3, 2, "s", "inner", 12, 18),
            span(2, 1, "s", "early", 10, 20),
        ]);
        assert_eq!(names(&trace), ["root", ".early", "..inner", ".late"]);
        assert_eq!(trace.nodes[0].descendants, 3);
        assert_eq!(trace.nodes[0].self_time, Duration::from_millis(80));
    }

    #[test]
    fn the_critical_path_covers_the_duration_of_the_root_once() {
        let trace = trace(vec![
            span(1, 0, "s", "root", 0, 100),
            span(2, 1, "s", "short", 10, 40),
            span(3, 1, "s", "long", 10, 70),
            span(4, 1, "s", "last", 75, 90),
        ]);
        let expected = [("root", 25), ("long", 60), ("last", 15)].map(|(name, time)| (name.to_owned(), time));
        assert_eq!(critical(&trace), expected);
    }

    #[test]
    fn a_call_that_outlives_its_caller_is_not_on_the_critical_path() {
        let trace = trace(vec![span(1, 0, "s", "root", 0, 10), span(2, 1, "s", "orphan", 5, 50)]);
        assert_eq!(critical(&trace), [("root".to_owned(), 10)]);
    }

    #[test]
    fn concurrent_children_are_counted_once_in_self_time() {
        let trace = trace(vec![
            span(1, 0, "s", "root", 0, 100),
            span(2, 1, "s", "a", 10, 50),
            span(3, 1, "s", "b", 20, 40),
            span(4, 1, "s", "c", 30, 60),
        ]);
        assert_eq!(trace.nodes[0].self_time, Duration::from_millis(50));
    }

    #[test]
    fn cyclic_parents_and_duplicate_spans_are_tolerated() {
        let mut own = span(3, 3, "s", "own parent", 0, 1);
        own.error = Some(String::new());
        let trace = trace(vec![span(1, 2, "s", "a", 0, 1), span(2, 1, "s", "b", 0, 1), own.clone(), own]);
        assert_eq!(trace.nodes.len(), 3);
        assert_eq!(trace.errors(), 1);
    }

    #[test]
    fn cycles_of_parents_follow_the_other_spans_from_their_earliest_span() {
        let trace = trace(vec![
            span(2, 3, "s", "a", 2, 9),
            span(3, 2, "s", "b", 1, 9),
            span(4, 3, "s", "below b", 0, 9),
            span(1, 9, "s", "root", 3, 9),
            span(5, 5, "s", "own parent", 4, 9),
        ]);
        assert_eq!(names(&trace), ["root", "b", ".below b", ".a", "own parent"]);
        assert_eq!(trace.root().map(|root| root.name.as_str()), Some("root"));
    }

    #[test]
    fn a_deep_trace_does_not_overflow_the_stack() {
        let spans = (1..=50_000).map(|id| span(id, id - 1, "s", "deeper", 0, 1)).collect();
        let trace = trace(spans);
        assert_eq!(trace.nodes.last().map(|node| node.depth), Some(49_999));
    }
}

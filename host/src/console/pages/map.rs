//! The service map of a trace, as a drawing: callers on the left.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use maud::{Markup, html};

use super::colour::Colours;
use super::model::{SpanKindModel, ValueModel, find};
use super::tree::TraceModel;
use super::{text, units};

/// The largest number of nodes drawn.
const MAX_NODES: usize = 24;
const NODE_SIZE: (f64, f64) = (176.0, 40.0);
const GAP: (f64, f64) = (84.0, 18.0);

#[derive(Default)]
struct MapNode {
    spans: usize,
    errors: usize,
    /// Not a service of the trace, but an origin that one of them calls.
    external: bool,
    column: usize,
    row: usize,
}

/// The drawing's nodes by name, and the calls between them with their number and number of failures.
#[derive(Default)]
struct Map {
    nodes: BTreeMap<String, MapNode>,
    calls: BTreeMap<(String, String), (usize, usize)>,
}

impl Map {
    fn of(trace: &TraceModel) -> Map {
        let mut map = Map::default();
        let callers: HashSet<_> = trace.nodes.iter().filter_map(|node| node.parent).collect();
        for (at, node) in trace.nodes.iter().enumerate() {
            let (service, failed) = (&node.span.service, usize::from(node.span.error.is_some()));
            map.count(service, failed, false);
            let parent = node.parent.and_then(|parent| trace.nodes.get(parent));
            if let Some(parent) = parent.filter(|parent| parent.span.service != *service) {
                map.call(&parent.span.service, service, failed);
            }
            // A call without a server span as its child left this host.
            let target = find(&node.span.attributes, "server.address");
            if let (SpanKindModel::Client, false, Some(ValueModel::Text(host))) =
                (node.span.kind, callers.contains(&at), target)
            {
                let external = match find(&node.span.attributes, "server.port") {
                    Some(port) => format!("{host}:{port}"),
                    None => host.clone(),
                };
                map.count(&external, failed, true);
                map.call(service, &external, failed);
            }
        }
        map.assign_columns();
        map
    }

    fn count(&mut self, name: &str, failed: usize, external: bool) {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(name) {
            return;
        }
        let node = self.nodes.entry(name.to_owned()).or_default();
        node.spans += 1;
        node.errors += failed;
        node.external |= external;
    }

    fn call(&mut self, from: &str, to: &str, failed: usize) {
        if self.nodes.contains_key(from) && self.nodes.contains_key(to) {
            let (count, errors) = self.calls.entry((from.to_owned(), to.to_owned())).or_default();
            *count += 1;
            *errors += failed;
        }
    }

    /// Assigns each node the column after its first caller's, starting from nodes without callers.
    fn assign_columns(&mut self) {
        let called: BTreeSet<_> = self.calls.keys().map(|(_, to)| to.clone()).collect();
        let mut open: Vec<_> = self.nodes.keys().filter(|name| !called.contains(*name)).cloned().collect();
        let (mut column, mut placed) = (0, BTreeSet::new());
        while placed.len() < self.nodes.len() {
            if open.is_empty() {
                open.extend(self.nodes.keys().find(|name| !placed.contains(*name)).cloned());
            }
            open.retain(|name| placed.insert(name.clone()));
            for (row, name) in open.iter().enumerate() {
                if let Some(node) = self.nodes.get_mut(name) {
                    (node.column, node.row) = (column, row);
                }
            }
            column += usize::from(!open.is_empty());
            let after = self.calls.keys().filter(|(from, _)| open.contains(from)).map(|(_, to)| to.clone());
            open = after.collect::<BTreeSet<_>>().into_iter().collect();
        }
    }

    fn corner(&self, name: &str) -> Option<(f64, f64)> {
        let node = self.nodes.get(name)?;
        Some((1.0 + node.column as f64 * (NODE_SIZE.0 + GAP.0), 1.0 + node.row as f64 * (NODE_SIZE.1 + GAP.1)))
    }
}

/// The drawing.
pub(super) fn map(trace: &TraceModel, colours: &Colours) -> Markup {
    let map = Map::of(trace);
    let columns = map.nodes.values().map(|node| node.column + 1).max().unwrap_or(1) as f64;
    let rows = map.nodes.values().map(|node| node.row + 1).max().unwrap_or(1) as f64;
    let width = columns * (NODE_SIZE.0 + GAP.0) - GAP.0 + 2.0;
    let height = rows * (NODE_SIZE.1 + GAP.1) - GAP.1 + 2.0;
    let calls: Vec<_> =
        map.calls.iter().map(|((from, to), (count, _))| format!("{from} calls {to} {count}×")).collect();
    html! {
        svg.map viewBox={"0 0 " (width) " " (height)} width=(width) height=(height) role="img"
            aria-label={"Service map: " (text(&calls.join(", ")))} {
            @for ((from, to), (count, errors)) in &map.calls { (call(&map, from, to, *count, *errors)) }
            @for (name, node) in &map.nodes { (drawn(&map, name, node, colours)) }
        }
    }
}

fn drawn(map: &Map, name: &str, node: &MapNode, colours: &Colours) -> Markup {
    let Some((x, y)) = map.corner(name) else { return html! {} };
    let shown: String = name.chars().take(24).collect();
    let below = match (node.external, node.errors) {
        (true, _) => format!("external, {}", units::counted(node.spans, "call")),
        (false, 0) => units::counted(node.spans, "span"),
        (false, errors) => format!("{}, {}", units::counted(node.spans, "span"), units::counted(errors, "error")),
    };
    let class = if node.external { "external".to_owned() } else { colours.class(name) };
    html! {
        g.node.external[node.external].failed[node.errors > 0] {
            rect.frame x=(x) y=(y) width=(NODE_SIZE.0) height=(NODE_SIZE.1) rx="5" {}
            rect class=(class) x=(x) y=(y) width="5" height=(NODE_SIZE.1) rx="2" {}
            text.name x=(x + 14.0) y=(y + 17.0) { (text(&shown)) }
            text.label x=(x + 14.0) y=(y + 32.0) { (below) }
        }
    }
}

fn call(map: &Map, from: &str, to: &str, count: usize, errors: usize) -> Markup {
    let (Some((x1, y1)), Some((x2, y2))) = (map.corner(from), map.corner(to)) else { return html! {} };
    let (x1, y1, y2) = (x1 + NODE_SIZE.0, y1 + NODE_SIZE.1 / 2.0, y2 + NODE_SIZE.1 / 2.0);
    let bend = ((x2 - x1) / 2.0).abs().max(30.0);
    let path = format!("M{x1} {y1}C{} {y1} {} {y2} {} {y2}", x1 + bend, x2 - bend, x2 - 5.0);
    let head = format!("M{x2} {y2}l-7 -4v8z");
    html! {
        g.call.failed[errors > 0] {
            path.line d=(path) {}
            path.head d=(head) {}
            text.label x=((x1 + x2) / 2.0) y=((y1 + y2) / 2.0 - 5.0) text-anchor="middle" { (count) "×" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::pages::model::AttributeModel;
    use crate::console::pages::tree::tests::{span, trace};

    fn columns(map: &Map) -> Vec<(&str, usize)> {
        map.nodes.iter().map(|(name, node)| (name.as_str(), node.column)).collect()
    }

    #[test]
    fn callers_are_left_of_their_callees() {
        let map = Map::of(&trace(vec![
            span(1, 0, "user", "a", 0, 9),
            span(2, 1, "product", "b", 1, 8),
            span(3, 2, "inventory", "c", 2, 3),
            span(4, 2, "inventory", "c", 2, 3),
        ]));
        assert_eq!(columns(&map), [("inventory", 2), ("product", 1), ("user", 0)]);
        assert_eq!(map.calls.get(&("product".to_owned(), "inventory".to_owned())), Some(&(2, 0)));
    }

    #[test]
    fn a_call_without_a_server_span_leads_to_an_external_node() {
        let mut client = span(2, 1, "user", "GET", 1, 2);
        client.kind = SpanKindModel::Client;
        let value = ValueModel::Text("example.org".to_owned());
        client.attributes = vec![AttributeModel { key: "server.address".to_owned(), value }];
        let map = Map::of(&trace(vec![span(1, 0, "user", "a", 0, 9), client]));
        assert!(map.nodes.get("example.org").is_some_and(|node| node.external));
    }

    #[test]
    fn services_that_call_each_other_are_drawn_once() {
        let map =
            Map::of(&trace(vec![span(1, 2, "a", "x", 0, 9), span(2, 1, "b", "y", 0, 9), span(3, 2, "a", "z", 0, 9)]));
        assert_eq!(map.nodes.len(), 2);
    }

    #[test]
    fn the_number_of_nodes_is_bounded() {
        let spans = (1..=100).map(|id| span(id, id - 1, &format!("service-{id}"), "x", 0, 9)).collect();
        assert_eq!(Map::of(&trace(spans)).nodes.len(), MAX_NODES);
    }
}

//! The service map of a trace, as a drawing: callers on the left.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use maud::{Markup, html};

use super::colour::Colours;
use super::model::{Kind, Value, find};
use super::tree::Trace;
use super::{text, units};

/// The largest number of services drawn.
const MOST: usize = 24;
const BOX: (f64, f64) = (176.0, 40.0);
const GAP: (f64, f64) = (84.0, 18.0);

#[derive(Default)]
struct Place {
    spans: usize,
    errors: usize,
    /// Not a service of the trace, but an origin that one of them calls.
    outside: bool,
    column: usize,
    row: usize,
}

/// The drawing's nodes by name, and the calls between them with their number and number of failures.
#[derive(Default)]
struct Map {
    places: BTreeMap<String, Place>,
    calls: BTreeMap<(String, String), (usize, usize)>,
}

impl Map {
    fn of(trace: &Trace) -> Map {
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
            if let (Kind::Client, false, Some(Value::Text(host))) = (node.span.kind, callers.contains(&at), target) {
                let outside = match find(&node.span.attributes, "server.port") {
                    Some(port) => format!("{host}:{port}"),
                    None => host.clone(),
                };
                map.count(&outside, failed, true);
                map.call(service, &outside, failed);
            }
        }
        map.arrange();
        map
    }

    fn count(&mut self, name: &str, failed: usize, outside: bool) {
        if self.places.len() >= MOST && !self.places.contains_key(name) {
            return;
        }
        let place = self.places.entry(name.to_owned()).or_default();
        place.spans += 1;
        place.errors += failed;
        place.outside |= outside;
    }

    fn call(&mut self, from: &str, to: &str, failed: usize) {
        if self.places.contains_key(from) && self.places.contains_key(to) {
            let (count, errors) = self.calls.entry((from.to_owned(), to.to_owned())).or_default();
            *count += 1;
            *errors += failed;
        }
    }

    /// Assigns each node the column after its first caller's, starting from nodes without callers.
    fn arrange(&mut self) {
        let called: BTreeSet<_> = self.calls.keys().map(|(_, to)| to.clone()).collect();
        let mut open: Vec<_> = self.places.keys().filter(|name| !called.contains(*name)).cloned().collect();
        let (mut column, mut timings) = (0, BTreeSet::new());
        while timings.len() < self.places.len() {
            if open.is_empty() {
                open.extend(self.places.keys().find(|name| !timings.contains(*name)).cloned());
            }
            open.retain(|name| timings.insert(name.clone()));
            for (row, name) in open.iter().enumerate() {
                if let Some(place) = self.places.get_mut(name) {
                    (place.column, place.row) = (column, row);
                }
            }
            column += usize::from(!open.is_empty());
            let after = self.calls.keys().filter(|(from, _)| open.contains(from)).map(|(_, to)| to.clone());
            open = after.collect::<BTreeSet<_>>().into_iter().collect();
        }
    }

    fn corner(&self, name: &str) -> Option<(f64, f64)> {
        let place = self.places.get(name)?;
        Some((1.0 + place.column as f64 * (BOX.0 + GAP.0), 1.0 + place.row as f64 * (BOX.1 + GAP.1)))
    }
}

/// The drawing.
pub(super) fn map(trace: &Trace, colours: &Colours) -> Markup {
    let map = Map::of(trace);
    let columns = map.places.values().map(|place| place.column + 1).max().unwrap_or(1) as f64;
    let rows = map.places.values().map(|place| place.row + 1).max().unwrap_or(1) as f64;
    let width = columns * (BOX.0 + GAP.0) - GAP.0 + 2.0;
    let height = rows * (BOX.1 + GAP.1) - GAP.1 + 2.0;
    let calls: Vec<_> =
        map.calls.iter().map(|((from, to), (count, _))| format!("{from} calls {to} {count}×")).collect();
    html! {
        svg.map viewBox={"0 0 " (width) " " (height)} width=(width) height=(height) role="img"
            aria-label={"Service map: " (text(&calls.join(", ")))} {
            @for ((from, to), (count, errors)) in &map.calls { (call(&map, from, to, *count, *errors)) }
            @for (name, place) in &map.places { (drawn(&map, name, place, colours)) }
        }
    }
}

fn drawn(map: &Map, name: &str, place: &Place, colours: &Colours) -> Markup {
    let Some((x, y)) = map.corner(name) else { return html! {} };
    let shown: String = name.chars().take(24).collect();
    let below = match (place.outside, place.errors) {
        (true, _) => format!("outside, {}", units::counted(place.spans, "call")),
        (false, 0) => units::counted(place.spans, "span"),
        (false, errors) => format!("{}, {}", units::counted(place.spans, "span"), units::counted(errors, "error")),
    };
    let class = if place.outside { "outside".to_owned() } else { colours.class(name) };
    html! {
        g.place.outside[place.outside].failed[place.errors > 0] {
            rect.frame x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="5" {}
            rect class=(class) x=(x) y=(y) width="5" height=(BOX.1) rx="2" {}
            text.name x=(x + 14.0) y=(y + 17.0) { (text(&shown)) }
            text.label x=(x + 14.0) y=(y + 32.0) { (below) }
        }
    }
}

fn call(map: &Map, from: &str, to: &str, count: usize, errors: usize) -> Markup {
    let (Some((x1, y1)), Some((x2, y2))) = (map.corner(from), map.corner(to)) else { return html! {} };
    let (x1, y1, y2) = (x1 + BOX.0, y1 + BOX.1 / 2.0, y2 + BOX.1 / 2.0);
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
    use crate::console::pages::model::Attribute;
    use crate::console::pages::tree::tests::{span, trace};

    fn columns(map: &Map) -> Vec<(&str, usize)> {
        map.places.iter().map(|(name, place)| (name.as_str(), place.column)).collect()
    }

    #[test]
    fn callers_stand_left_of_what_they_call() {
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
    fn a_call_that_nobody_here_answers_is_shown_outside() {
        let mut client = span(2, 1, "user", "GET", 1, 2);
        client.kind = Kind::Client;
        let value = Value::Text("example.org".to_owned());
        client.attributes = vec![Attribute { key: "server.address".to_owned(), value }];
        let map = Map::of(&trace(vec![span(1, 0, "user", "a", 0, 9), client]));
        assert!(map.places.get("example.org").is_some_and(|place| place.outside));
    }

    #[test]
    fn services_that_call_each_other_are_placed_all_the_same() {
        let map =
            Map::of(&trace(vec![span(1, 2, "a", "x", 0, 9), span(2, 1, "b", "y", 0, 9), span(3, 2, "a", "z", 0, 9)]));
        assert_eq!(map.places.len(), 2);
    }

    #[test]
    fn a_crowd_is_cut() {
        let spans = (1..=100).map(|id| span(id, id - 1, &format!("service-{id}"), "x", 0, 9)).collect();
        assert_eq!(Map::of(&trace(spans)).places.len(), MOST);
    }
}

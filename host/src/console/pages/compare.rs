//! `/compare`: compares two traces, path by path.
//!
//! Spans are matched by the names of their ancestors and their own. Several spans at one path are merged.

use std::collections::HashMap;
use std::time::Duration;

use maud::{Markup, html};

use super::layout::{ActivePage, Updates, page};
use super::model::{SpanKindModel, ValueModel, find};
use super::tree::{TraceModel, TreeNode};
use super::{chart, text, traces, units};

/// The largest number of paths shown.
const MAX_ROWS: usize = 1000;
/// The deepest indentation.
const MAX_DEPTH: usize = 24;

/// A path in either trace.
struct PathRow {
    depth: usize,
    service: String,
    name: String,
    sides: [PathStats; 2],
}

/// The spans at a path in one trace.
#[derive(Clone, Copy, Default)]
struct PathStats {
    spans: usize,
    errors: usize,
    time: Duration,
}

/// The page.
pub(in crate::console) fn compare(a: &TraceModel, b: &TraceModel) -> Markup {
    let rows = rows(a, b);
    let longest = rows.iter().flat_map(|row| row.sides).map(|side| side.time).max().unwrap_or_default();
    page(
        "Compare",
        ActivePage::Traces,
        Updates::Fixed,
        &html! {
            div.title { h1 { "Compare" } }
            div.pair { (side("A", a, b)) (side("B", b, a)) }
            (differences(a, b))
            div.scroll {
                table.compare {
                    thead {
                        tr {
                            th scope="col" { "Span" }
                            th.number scope="col" { "A" } th.number scope="col" { "Time A" }
                            th.number scope="col" { "B" } th.number scope="col" { "Time B" }
                            th.number scope="col" { "Difference" }
                            td.meter {}
                        }
                    }
                    tbody { @for row in rows.iter().take(MAX_ROWS) { (line(row, longest)) } }
                }
            }
            @if rows.len() > MAX_ROWS { p.note { "And " (units::counted(rows.len() - MAX_ROWS, "more path")) "." } }
        },
    )
}

fn side(letter: &str, trace: &TraceModel, other: &TraceModel) -> Markup {
    html! {
        section.card aria-label={"Trace " (letter)} {
            h2 {
                span.letter { (letter) } " "
                a href={"/traces/" (trace.id)} data-row { (text(trace.root().map_or("", |span| &span.name))) }
            }
            p.summary {
                code.id { (text(&trace.id)) }
                span { (traces::time(trace.start)) }
                b { (units::duration(trace.duration)) }
                span { (units::counted(trace.nodes.len(), "span")) }
                @if trace.errors() > 0 { span.bad { (units::counted(trace.errors(), "error")) } }
            }
            @if letter == "A" { a.hint href={"/compare?a=" (other.id) "&b=" (trace.id)} { "Swap sides" } }
        }
    }
}

/// How the server spans of both traces differ in generation, digest and status, by service.
fn differences(a: &TraceModel, b: &TraceModel) -> Markup {
    let mut rows = Vec::new();
    for service in a.services().into_iter().filter(|service| b.services().contains(service)) {
        for key in ["spandrel.component.generation", "spandrel.component.digest", "http.response.status_code"] {
            let (in_a, in_b) = (server_values(a, service, key), server_values(b, service, key));
            if in_a != in_b {
                rows.push((service, key, in_a, in_b));
            }
        }
    }
    html! {
        @if !rows.is_empty() {
            div.scroll {
                table.differences {
                    thead { tr { th scope="col" { "Service" } th scope="col" { "Attribute" } th scope="col" { "A" } th scope="col" { "B" } } }
                    tbody {
                        @for (service, key, in_a, in_b) in &rows {
                            tr {
                                td { (text(service)) } th scope="row" { (key) }
                                td { code { (text(in_a)) } } td { code { (text(in_b)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn server_values(trace: &TraceModel, service: &str, key: &str) -> String {
    let servers =
        trace.nodes.iter().filter(|node| node.span.kind == SpanKindModel::Server && node.span.service == service);
    let mut values: Vec<_> =
        servers.filter_map(|node| find(&node.span.attributes, key)).map(ValueModel::to_string).collect();
    values.sort_unstable();
    values.dedup();
    values.join(", ")
}

fn line(row: &PathRow, longest: Duration) -> Markup {
    let [a, b] = row.sides;
    let change = b.time.as_secs_f64() - a.time.as_secs_f64();
    let class = match (a.spans, b.spans) {
        (0, _) => "only-b",
        (_, 0) => "only-a",
        _ => "",
    };
    let half = chart::round(change.abs() / longest.as_secs_f64().max(1e-9) * 50.0);
    let x = if change < 0.0 { 50.0 - half } else { 50.0 };
    html! {
        tr class=(class) {
            th scope="row" {
                svg width=(row.depth.min(MAX_DEPTH) * 14) height="1" aria-hidden="true" {}
                span.service { (text(&row.service)) } " " span.operation { (text(&row.name)) }
                @if a.spans == 0 { span.only { "only B" } }
                @if b.spans == 0 { span.only { "only A" } }
            }
            (cells(a)) (cells(b))
            td.number {
                @if a.spans > 0 && b.spans > 0 {
                    (if change < 0.0 { "−" } else { "+" }) (units::duration(Duration::from_secs_f64(change.abs())))
                }
            }
            td.meter {
                svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                    line.axis x1="50" x2="50" y1="0" y2="8" {}
                    rect class=(if change < 0.0 { "faster" } else { "slower" }) x=(x) y="1" height="6" width=(half) {}
                }
            }
        }
    }
}

fn cells(side: PathStats) -> Markup {
    html! {
        td.number {
            @if side.spans > 0 { (side.spans) "×" }
            @if side.errors > 0 { " " span.bad { (side.errors) " failed" } }
        }
        td.number { @if side.spans > 0 { (units::duration(side.time)) } }
    }
}

/// The paths of both traces in the order of the first; new paths of the second follow their parent's others.
fn rows(a: &TraceModel, b: &TraceModel) -> Vec<PathRow> {
    let mut all = PathTable::default();
    all.add(a, 0);
    all.add(b, 1);
    all.in_order()
}

#[derive(Default)]
struct PathTable {
    found: Vec<PathRow>,
    parents: Vec<Option<usize>>,
    /// The index of a path by its parent, service and name.
    index: HashMap<(Option<usize>, String, String), usize>,
}

impl PathTable {
    fn add(&mut self, trace: &TraceModel, side: usize) {
        let mut of_nodes = Vec::with_capacity(trace.nodes.len());
        for node in &trace.nodes {
            let parent = node.parent.and_then(|parent| of_nodes.get(parent).copied());
            let at = self.row(node, parent);
            of_nodes.push(at);
            if let Some(side) = self.found.get_mut(at).and_then(|row| row.sides.get_mut(side)) {
                side.spans += 1;
                side.errors += usize::from(node.span.error.is_some());
                side.time += node.span.duration;
            }
        }
    }

    fn row(&mut self, node: &TreeNode, parent: Option<usize>) -> usize {
        let (service, name) = (node.span.service.clone(), node.span.name.clone());
        let next = self.found.len();
        let at = *self.index.entry((parent, service.clone(), name.clone())).or_insert(next);
        if at == next {
            self.found.push(PathRow { depth: node.depth, service, name, sides: [PathStats::default(); 2] });
            self.parents.push(parent);
        }
        at
    }

    fn in_order(self) -> Vec<PathRow> {
        let mut below: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
        for (at, parent) in self.parents.iter().enumerate() {
            below.entry(*parent).or_default().push(at);
        }
        let mut found: Vec<_> = self.found.into_iter().map(Some).collect();
        let mut open: Vec<_> = below.remove(&None).unwrap_or_default().into_iter().rev().collect();
        let mut ordered = Vec::with_capacity(found.len());
        while let Some(at) = open.pop() {
            ordered.extend(found.get_mut(at).and_then(Option::take));
            open.extend(below.remove(&Some(at)).unwrap_or_default().into_iter().rev());
        }
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::pages::tree::tests::{span, trace};

    fn shown(rows: &[PathRow]) -> Vec<String> {
        let line = |row: &PathRow| {
            let [a, b] = row.sides;
            format!("{}{} {}/{}", ".".repeat(row.depth), row.name, a.spans, b.spans)
        };
        rows.iter().map(line).collect()
    }

    #[test]
    fn spans_are_matched_by_the_path_from_the_root() {
        let a = trace(vec![
            span(1, 0, "s", "root", 0, 9),
            span(2, 1, "s", "call", 1, 2),
            span(3, 1, "s", "call", 2, 3),
            span(4, 1, "s", "gone", 3, 4),
        ]);
        let b = trace(vec![span(1, 0, "s", "root", 0, 9), span(2, 1, "s", "call", 1, 2), span(3, 2, "s", "new", 1, 2)]);
        assert_eq!(shown(&rows(&a, &b)), ["root 1/1", ".call 2/1", "..new 0/1", ".gone 1/0"]);
    }

    #[test]
    fn span_names_are_escaped() {
        let hostile = trace(vec![span(1, 0, "<b>", "<script>x</script>\u{1b}", 0, 9)]);
        let page = compare(&hostile, &hostile).into_string();
        assert!(!page.contains("<b>&lt;") && !page.contains("<script>x") && !page.contains('\u{1b}'));
    }
}

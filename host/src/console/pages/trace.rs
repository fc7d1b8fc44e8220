//! `/traces/{id}`: one trace as a waterfall.

use std::time::Duration;

use maud::{Markup, html};

use super::colour::Colours;
use super::layout::{ActivePage, Updates, page};
use super::model::{SpanKindModel, TraceRow, ValueModel, find};
use super::services::{command, digest};
use super::tree::{TraceModel, TreeNode};
use super::{chart, curl, map, span, text, traces, units};

/// The largest number of spans drawn. The JSON contains all.
const MAX_SPANS: usize = 1000;
/// The total size of span details in bytes. Beyond it, spans refer to the JSON.
const MAX_DETAILS: usize = 4 * 1024 * 1024;
/// The deepest indentation. Deeper spans are not indented further.
const MAX_DEPTH: usize = 24;
/// The largest number of log records shown.
const MAX_LOGS: usize = 500;
/// The width of a bar in SVG units.
const WIDTH: f64 = 1000.0;

/// The view model of the page.
pub(in crate::console) struct TracePage {
    pub trace: TraceModel,
    /// Traces with the same root, for comparison.
    pub similar: Vec<TraceRow>,
}

/// The page.
pub(in crate::console) fn trace(view: &TracePage) -> Markup {
    let trace = &view.trace;
    let colours = Colours::of(trace.services());
    let name = trace.root().map(|span| span.name.clone()).unwrap_or_default();
    let logs: Vec<_> = trace.logs.iter().take(MAX_LOGS).collect();
    page(
        &name,
        ActivePage::Traces,
        Updates::Fixed,
        &html! {
            (heading(trace, &colours))
            (actions(view))
            (waterfall(trace, &colours))
            div.below {
                section aria-labelledby="by-service" { h2 #by-service { "Services" } (by_service(trace, &colours)) }
                section aria-labelledby="service-map" {
                    h2 #service-map { "Service map" }
                    div.scroll tabindex="0" role="region" aria-labelledby="service-map" { (map::map(trace, &colours)) }
                }
            }
            @if !logs.is_empty() {
                section aria-labelledby="logs" {
                    h2 #logs { "Log records" }
                    (span::records(&logs, trace.start, true))
                    @if trace.logs.len() > MAX_LOGS { p.note { "Only the first " (MAX_LOGS) " are shown." } }
                }
            }
        },
    )
}

fn heading(trace: &TraceModel, colours: &Colours) -> Markup {
    let errors = trace.errors();
    html! {
        div.title {
            h1 {
                @if let Some(root) = trace.root() {
                    span.service.(colours.class(&root.service)) { (text(&root.service)) }
                    " " span.operation { (text(&root.name)) }
                }
            }
            p.summary {
                code.id { (text(&trace.id)) }
                span { (traces::time(trace.start)) }
                span { b { (units::duration(trace.duration)) } }
                span { (units::counted(trace.nodes.len(), "span")) }
                span { (units::counted(trace.services().len(), "service")) }
                @if errors > 0 { a.bad href="#first-error" data-error { (units::counted(errors, "error")) } }
            }
        }
    }
}

fn actions(view: &TracePage) -> Markup {
    let trace = &view.trace;
    let curl = trace.root().and_then(curl::of);
    html! {
        div.actions.bar {
            @if let Some(curl) = &curl {
                details {
                    summary { "Copy as curl" }
                    div.popup {
                        (command(&curl.command))
                        @if curl.redacted { p.note { "Parts of the URL were redacted in the trace." } }
                    }
                }
            }
            a.button href={"/api/traces/" (trace.id)} download={"trace-" (trace.id) ".json"} { "Download JSON" }
            button type="button" hidden data-copy-address { "Copy link" }
            details {
                summary { "Compare…" }
                form.popup action="/compare" {
                    input type="hidden" name="a" value=(trace.id);
                    label for="other" { "With trace" }
                    input #other name="b" list="similar" required placeholder="trace id" autocomplete="off";
                    datalist #similar {
                        @for row in &view.similar {
                            option value=(row.id) { (units::clock(row.start)) " · " (units::duration(row.duration)) }
                        }
                    }
                    button.primary { "Compare" }
                    @if !view.similar.is_empty() {
                        ul {
                            @for row in view.similar.iter().take(6) {
                                li {
                                    a href={"/compare?a=" (trace.id) "&b=" (row.id)} {
                                        (traces::time(row.start)) " · " (units::duration(row.duration))
                                        @if row.errors > 0 { " · " (units::counted(row.errors, "error")) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn waterfall(trace: &TraceModel, colours: &Colours) -> Markup {
    let first_error = trace.nodes.iter().position(|node| node.span.error.is_some());
    let mut budget = MAX_DETAILS;
    html! {
        section.waterfall aria-label="Spans" {
            div.ruler aria-hidden="true" {
                span.legend { i.critical {} "critical path" }
                div.ticks { @for share in 0..5_u32 { span { (units::duration(trace.duration * share / 4)) } } }
            }
            ol.spans {
                @for (at, node) in trace.nodes.iter().enumerate().take(MAX_SPANS) {
                    @let details = span::details(trace, node);
                    @let fits = spend(&mut budget, details.0.len());
                    li id={"s" (node.span.id)} data-depth=(node.depth) {
                        @if Some(at) == first_error { a #first-error {} }
                        @if node.descendants > 0 {
                            button.fold type="button" hidden aria-expanded="true"
                                aria-label={"Spans below " (text(&node.span.name))} {}
                        }
                        details.span.failed[node.span.error.is_some()] {
                            summary data-row { (row(trace, node, colours)) }
                            div.details {
                                @if fits { (details) } @else { p.note { "This trace is large: the details of this span are in its JSON." } }
                            }
                        }
                    }
                }
            }
            @if trace.nodes.len() > MAX_SPANS {
                p.note { "And " (units::counted(trace.nodes.len() - MAX_SPANS, "more span")) ": the JSON contains all of them." }
            }
        }
    }
}

/// Takes bytes from the remaining budget, if it suffices.
fn spend(budget: &mut usize, bytes: usize) -> bool {
    let fits = *budget >= bytes;
    *budget = budget.saturating_sub(bytes);
    fits
}

fn row(trace: &TraceModel, node: &TreeNode, colours: &Colours) -> Markup {
    let span = &node.span;
    let parent = node.parent.and_then(|parent| trace.nodes.get(parent));
    let is_service_entry = parent.is_none_or(|parent| parent.span.service != span.service);
    html! {
        span.label {
            (guide(node.depth))
            i.swatch.(colours.class(&span.service)) {}
            @if is_service_entry { span.service { (text(&span.service)) } }
            @else { span.sr { (text(&span.service)) } }
            span.operation.entry[span.kind == SpanKindModel::Server] { (text(&span.name)) }
            @if let Some(hint) = hint(node) { span.hint { (text(&hint)) } }
            @if span.error.is_some() { span.bad { "error" } }
        }
        (bar(trace, node, colours))
        span.took { (units::duration(span.duration)) }
    }
}

/// The attributes that distinguish similar calls: their target and result.
fn hint(node: &TreeNode) -> Option<String> {
    let attribute = |key| find(&node.span.attributes, key);
    let status = attribute("http.response.status_code").map(|status| format!(" {status}")).unwrap_or_default();
    match (attribute("url.path"), attribute("url.full")) {
        (Some(path), _) => Some(format!("{path}{status}")),
        (None, Some(ValueModel::Text(url))) => {
            let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            Some(format!("{rest}{status}"))
        }
        _ => None,
    }
}

/// Lines from a span to its ancestors.
fn guide(depth: usize) -> Markup {
    let levels = depth.min(MAX_DEPTH);
    let path: String = (0..levels).map(|level| format!("M{}.5 0V24", level * 14 + 6)).collect();
    html! {
        @if levels > 0 {
            svg.guide width=(levels * 14) height="24" viewBox={"0 0 " (levels * 14) " 24"} preserveAspectRatio="none"
                aria-hidden="true" { path d=(path) {} }
        }
    }
}

fn bar(trace: &TraceModel, node: &TreeNode, colours: &Colours) -> Markup {
    let whole = trace.duration.as_secs_f64().max(1e-9);
    let place = |time: Duration| chart::round((time.as_secs_f64() / whole * WIDTH).clamp(0.0, WIDTH));
    let x = place(node.offset).min(WIDTH - 2.0);
    let width = (place(node.end()) - x).max(2.0);
    let events = node.span.events.iter().take(50);
    let events = events.map(|event| place(event.time.duration_since(trace.start).unwrap_or_default()));
    html! {
        svg.bar viewBox="0 0 1000 24" preserveAspectRatio="none" aria-hidden="true" {
            @for quarter in 0..5 { line.grid x1=(quarter * 250) x2=(quarter * 250) y1="0" y2="24" {} }
            rect class=(colours.class(&node.span.service)) x=(x) width=(width) y="6" height="11" {}
            @if node.span.error.is_some() { rect.failed x=(x) width=(width) y="6" height="11" {} }
            @for (from, to) in &node.critical {
                rect.critical x=(place(*from).min(WIDTH - 1.0)) width=((place(*to) - place(*from)).max(1.0)) y="18.5"
                    height="2.5" {}
            }
            @for at in events { line.event x1=(at) x2=(at) y1="4" y2="19" {} }
        }
    }
}

/// What one version of a service contributed to a trace, and its cost.
#[derive(Default)]
struct Share {
    version: Option<String>,
    spans: usize,
    errors: usize,
    self_time: Duration,
    cpu: Duration,
    memory: u64,
    digest: Option<String>,
}

fn by_service(trace: &TraceModel, colours: &Colours) -> Markup {
    let shares = shares(trace);
    let whole: f64 = shares.values().map(|share| share.self_time.as_secs_f64()).sum();
    html! {
        div.scroll {
            table.shares {
                thead {
                    tr {
                        th scope="col" { "Service" } th scope="col" { "Served by" }
                        th.number scope="col" { "Spans" } th.number scope="col" { "Self time" }
                        th.number scope="col" { "Guest CPU" } th.number scope="col" { "Memory" }
                    }
                }
                tbody {
                    @for ((service, generation), share) in &shares {
                        tr {
                            td { i.swatch.(colours.class(service)) {} (text(service)) }
                            td {
                                @if let Some(generation) = generation { "generation " b { (text(generation)) } " " }
                                @if let Some(version) = &share.version { span.hint { (text(version)) } " " }
                                @if let Some(of) = &share.digest { (digest(of)) }
                            }
                            td.number {
                                (share.spans)
                                @if share.errors > 0 { " " span.bad { (units::counted(share.errors, "error")) } }
                            }
                            td.number {
                                (units::duration(share.self_time))
                                span.unit { (units::percent(share.self_time.as_secs_f64() / whole.max(1e-9))) }
                            }
                            td.number { @if share.cpu.is_zero() { "–" } @else { (units::duration(share.cpu)) } }
                            td.number { @if share.memory == 0 { "–" } @else { (units::bytes(share.memory)) } }
                        }
                    }
                }
            }
        }
    }
}

/// By service and generation. Durations of concurrent requests are added; of memory the maximum is shown.
fn shares(trace: &TraceModel) -> std::collections::BTreeMap<(String, Option<String>), Share> {
    let mut shares = std::collections::BTreeMap::new();
    for node in &trace.nodes {
        let generation = trace.server_attribute(node, "spandrel.component.generation").map(ValueModel::to_string);
        let share: &mut Share = shares.entry((node.span.service.clone(), generation)).or_default();
        share.spans += 1;
        share.errors += usize::from(node.span.error.is_some());
        share.self_time += node.self_time;
        let attribute = |key| find(&node.span.attributes, key);
        if let Some(ValueModel::Double(seconds)) = attribute("spandrel.guest.cpu_time") {
            share.cpu += Duration::try_from_secs_f64(*seconds).unwrap_or_default();
        }
        if let Some(ValueModel::Int(bytes)) = attribute("spandrel.guest.memory") {
            share.memory = share.memory.max(u64::try_from(*bytes).unwrap_or_default());
        }
        let shown = |value: Option<&ValueModel>| value.map(ValueModel::to_string);
        share.digest = share.digest.take().or_else(|| shown(trace.server_attribute(node, "spandrel.component.digest")));
        share.version = share.version.take().or_else(|| shown(find(&node.span.resource, "service.version")));
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::pages::model::{AttributeModel, Event, LogModel, SpanModel};
    use crate::console::pages::tree::tests::{self, span};

    fn shown(spans: Vec<SpanModel>) -> String {
        trace(&TracePage { trace: tests::trace(spans), similar: Vec::new() }).into_string()
    }

    fn attribute(key: &str, value: ValueModel) -> AttributeModel {
        AttributeModel { key: key.to_owned(), value }
    }

    #[test]
    fn span_details_contain_the_serving_generation_and_the_cost() {
        let mut server = span(1, 0, "user", "GET /users", 0, 9);
        server.kind = SpanKindModel::Server;
        server.attributes = vec![
            attribute("spandrel.component.generation", ValueModel::Int(7)),
            attribute("spandrel.component.digest", ValueModel::Text("sha256:abcdef0123456789".to_owned())),
            attribute("spandrel.guest.cpu_time", ValueModel::Double(0.0015)),
            attribute("spandrel.guest.memory", ValueModel::Int(1_179_648)),
        ];
        let page = shown(vec![server, span(2, 1, "user", "inner", 1, 2)]);
        assert_eq!(page.matches("<dd>generation <b>7</b>").count(), 2, "the same generation served the inner span");
        for words in ["abcdef012345", "1.50 ms", "1152.0 KiB"] {
            assert!(page.contains(words), "{words}");
        }
    }

    #[test]
    fn text_recorded_by_guests_is_escaped() {
        let hostile = "<script>alert(1)</script>\" onload=\"\u{1b}[2J";
        let mut span = span(1, 0, hostile, hostile, 0, 9);
        span.error = Some(hostile.to_owned());
        span.attributes = vec![attribute(hostile, ValueModel::Text(hostile.to_owned()))];
        let attributes = vec![attribute("exception.stacktrace", ValueModel::Text(format!("0: a\n1: {hostile}")))];
        span.events = vec![Event { name: hostile.to_owned(), time: span.start, attributes }];
        let log = LogModel {
            time: span.start,
            severity: hostile.to_owned(),
            service: hostile.to_owned(),
            span: span.id.clone(),
            body: hostile.to_owned(),
            attributes: span.attributes.clone(),
        };
        let made = TraceModel::new("1".repeat(32), vec![span], vec![log]);
        let page = trace(&TracePage { trace: made, similar: Vec::new() }).into_string();
        assert!(!page.contains("<script>alert") && !page.contains("\" onload=\"") && !page.contains('\u{1b}'));
        assert!(page.contains("0: a\n1: &lt;script&gt;"), "a backtrace keeps its lines");
    }

    #[test]
    fn a_large_trace_is_truncated_with_a_note() {
        let spans = (1..=1500).map(|id| span(id, id - 1, "s", "deeper", 0, 1500)).collect();
        let page = shown(spans);
        assert!(page.contains("And 500 more spans"));
        let mut large = Vec::new();
        for id in 1..=900 {
            let mut span = span(id, 0, "s", "large", 0, 1);
            span.attributes = vec![attribute("text", ValueModel::Text("x".repeat(10_000)))];
            large.push(span);
        }
        let page = shown(large);
        assert!(page.len() < MAX_DETAILS + 2 * 1024 * 1024, "{}", page.len());
        assert!(page.contains("the details of this span are in its JSON"));
    }

    #[test]
    fn the_page_has_no_inline_styles_or_scripts() {
        let page = shown(vec![span(1, 0, "s", "a", 0, 9)]);
        assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains("onclick"));
    }
}

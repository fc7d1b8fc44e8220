//! The details of a span: attributes, events, errors and log records.

use std::time::{Duration, SystemTime};

use maud::{Markup, PreEscaped, html};

use super::model::{AttributeModel, Event, LinkModel, LogModel, ValueModel, find};
use super::services::{digest, encoded};
use super::tree::{TraceModel, TreeNode};
use super::{text, units};
use crate::printable::printable_lines;

/// The attribute that is shown as a block of its own.
const BACKTRACE: &str = "exception.stacktrace";

/// All details of a span.
pub(super) fn details(trace: &TraceModel, node: &TreeNode) -> Markup {
    let span = &node.span;
    let logs: Vec<_> = trace.logs.iter().filter(|log| log.span == span.id).collect();
    html! {
        @if let Some(message) = &span.error { (failure(message, &span.attributes)) }
        div.columns {
            section {
                h3 { "Attributes" }
                (attributes(&span.attributes, Some(&span.service)))
                @if span.dropped > 0 { p.note { (span.dropped) " more attributes or events were dropped because of limits." } }
            }
            section {
                h3 { "Span" }
                (facts(trace, node))
                @if !span.resource.is_empty() {
                    details.resource {
                        summary { "Resource" }
                        (attributes(&span.resource, None))
                    }
                }
            }
        }
        @if !span.events.is_empty() {
            section { h3 { "Events" } @for event in &span.events { (event_details(event, trace.start)) } }
        }
        @if !span.links.is_empty() {
            section {
                h3 { "Links" }
                ul {
                    @for LinkModel { trace, span } in &span.links {
                        li { a href={"/traces/" (trace) "#s" (span)} { code { (trace) } " span " code { (span) } } }
                    }
                }
            }
        }
        @if !logs.is_empty() {
            section { h3 { "Log records" } (records(&logs, trace.start, false)) }
        }
    }
}

fn failure(message: &str, attributes: &[AttributeModel]) -> Markup {
    html! {
        p.failure {
            strong { @match find(attributes, "error.type") {
                Some(kind) => (text(&kind.to_string())),
                None => "error",
            } }
            @if !message.is_empty() { " " (text(message)) }
        }
    }
}

fn facts(trace: &TraceModel, node: &TreeNode) -> Markup {
    let span = &node.span;
    let on_path: Duration = node.critical.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
    html! {
        dl.facts {
            dt { "service" } dd { (text(&span.service)) }
            dt { "kind" } dd { (span.kind.name()) }
            dt { "start" } dd { "+" (units::duration(node.offset)) }
            dt { "duration" } dd { (units::duration(span.duration)) }
            dt { "self time" } dd { (units::duration(node.self_time)) }
            @if !on_path.is_zero() { dt { "on the critical path" } dd { (units::duration(on_path)) } }
            @if let Some(generation) = trace.server_attribute(node, "spandrel.component.generation") {
                dt { "served by" }
                dd {
                    "generation " b { (generation) }
                    @if let Some(of) = trace.server_attribute(node, "spandrel.component.digest") { " " (digest(&of.to_string())) }
                }
            }
            dt { "span id" } dd { code { (text(&span.id)) } }
            @if let Some(parent) = &span.parent { dt { "parent" } dd { code { (text(parent)) } } }
        }
    }
}

/// Attributes by key. Those of a span link to other traces of the service with the same value.
fn attributes(all: &[AttributeModel], service: Option<&str>) -> Markup {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    html! {
        @if all.is_empty() { p.none { "None." } }
        table.attributes {
            @for AttributeModel { key, value } in sorted {
                tr {
                    th scope="row" { (text(key)) }
                    td data-kind=(kind(value)) { (shown(key, value)) }
                    @if let Some(service) = service { td.find { (find_link(service, key, value)) } }
                }
            }
        }
    }
}

fn kind(value: &ValueModel) -> &'static str {
    match value {
        ValueModel::Text(_) => "text",
        ValueModel::Bool(_) => "truth",
        ValueModel::Int(_) | ValueModel::Double(_) => "number",
    }
}

/// A value; for a cost, with its meaning.
fn shown(key: &str, value: &ValueModel) -> Markup {
    html! {
        @if value.to_string().contains('\n') { pre { (lines(&value.to_string())) } }
        @else { (text(&value.to_string())) }
        @match (key, value) {
            ("spandrel.guest.cpu_time", ValueModel::Double(seconds)) if (0.0..1e9).contains(seconds) => {
                span.unit { (units::duration(Duration::from_secs_f64(*seconds))) }
            }
            ("spandrel.guest.memory", ValueModel::Int(bytes)) => { span.unit { (units::bytes((*bytes).max(0) as u64)) } }
            _ => {}
        }
    }
}

/// A link to the traces in which a span of the service has the same attribute.
fn find_link(service: &str, key: &str, value: &ValueModel) -> Markup {
    let value = value.to_string();
    if value.len() > 200 || value.contains(['\n', '"', '\\']) || key.contains([' ', '=']) {
        return html! {};
    }
    let tags = format!("{key}=\"{value}\"");
    let href = format!("/traces?service={}&tags={}&lookback=all", encoded(service), encoded(&tags));
    html! { a href=(href) aria-label={"Find traces with this " (text(key))} title="Find traces with this" { "⌕" } }
}

fn event_details(event: &Event, start: SystemTime) -> Markup {
    let backtrace = find(&event.attributes, BACKTRACE);
    let rest: Vec<_> = event.attributes.iter().filter(|attribute| attribute.key != BACKTRACE).cloned().collect();
    html! {
        div.event.failed[backtrace.is_some() || event.name == "exception"] {
            h4 { (text(&event.name)) span.offset { "+" (since(event.time, start)) } }
            @if !rest.is_empty() { (attributes(&rest, None)) }
            @if let Some(backtrace) = backtrace { pre.backtrace { (lines(&backtrace.to_string())) } }
        }
    }
}

/// Log records by time; for a whole trace, with the span and service of each.
pub(super) fn records(logs: &[&LogModel], start: SystemTime, of_trace: bool) -> Markup {
    html! {
        div.scroll {
            table.logs {
                @for log in logs {
                    tr {
                        td.number { "+" (since(log.time, start)) }
                        td { span.severity data-severity=(crate::printable::printable(&log.severity)) { (text(&log.severity)) } }
                        @if of_trace { td { a href={"#s" (log.span)} { (text(&log.service)) } } }
                        td.body {
                            (text(&log.body))
                            @for AttributeModel { key, value } in &log.attributes {
                                span.pair { b { (text(key)) } "=" (text(&value.to_string())) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn since(time: SystemTime, start: SystemTime) -> String {
    units::duration(time.duration_since(start).unwrap_or_default())
}

/// Multi-line text.
fn lines(text: &str) -> Markup {
    PreEscaped(html! { (printable_lines(text).as_ref()) }.into_string())
}

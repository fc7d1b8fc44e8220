//! The adjustments that Jaeger's query service makes to a trace: order, duplicates, warnings about clock skew, and tags
//! that belong to the process.
//!
//! In Jaeger the adjustment of clock skew is turned off by default: it only reports what it would change.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::clock_skew::{self, SpanTiming};
use super::span::{Log, Process, RefType, Span, SpanRef, Tag, TagValue};

/// Tags of the SDK, which belong to the process.
pub(super) const PROCESS_TAGS: [&str; 5] = [
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
    "telemetry.distro.name",
    "telemetry.distro.version",
];
/// Tags in which old clients sent IPv4 addresses as numbers.
pub(super) const ADDRESS_TAGS: [&str; 2] = ["ip", "peer.ipv4"];

/// Applies all adjustments.
pub(super) fn adjust(spans: &mut Vec<Span>) {
    sort_tags(spans);
    remove_duplicates(spans);
    warn_of_clock_skew(spans);
    show_addresses(spans);
    move_to_process(spans);
    remove_invalid_references(spans);
    put_parents_first(spans);
}

/// Changes the process of each span, once for all spans that share it.
fn change_processes(spans: &mut [Span], change: impl Fn(&Process) -> Option<Process>) {
    let mut changed: HashMap<*const Process, Option<Arc<Process>>> = HashMap::new();
    // The old processes stay alive until the end, so that no address is reused.
    let old: Vec<_> = spans.iter().map(|span| span.process.clone()).collect();
    for (span, process) in spans.iter_mut().zip(&old) {
        let new = changed.entry(Arc::as_ptr(process)).or_insert_with(|| change(process).map(Arc::new));
        if let Some(new) = new {
            span.process = new.clone();
        }
    }
}

fn sort_tags(spans: &mut [Span]) {
    for span in &mut *spans {
        span.tags.sort_by(Tag::order);
        span.logs.iter_mut().for_each(sort_fields);
    }
    change_processes(spans, |process| {
        let mut process = process.clone();
        process.tags.sort_by(Tag::order);
        Some(process)
    });
}

/// Moves the name of the event to the front.
fn sort_fields(log: &mut Log) {
    let is_name = |field: &Tag| field.key == "event" && matches!(field.value, TagValue::Text(_));
    let offset = match log.fields.iter().position(is_name) {
        Some(at) => {
            log.fields.swap(0, at);
            1
        }
        None => 0,
    };
    if let Some(rest) = log.fields.get_mut(offset..) {
        rest.sort_by(Tag::order);
    }
}

/// Removes duplicate spans.
fn remove_duplicates(spans: &mut Vec<Span>) {
    let mut known: HashMap<u64, Vec<Span>> = HashMap::new();
    let counts = spans.iter().fold(HashMap::<u64, usize>::new(), |mut counts, span| {
        *counts.entry(span.id).or_default() += 1;
        counts
    });
    spans.retain(|span| {
        if counts.get(&span.id) == Some(&1) {
            return true;
        }
        let same = known.entry(span.id).or_default();
        let is_new = !same.contains(span);
        if is_new {
            same.push(span.clone());
        }
        is_new
    });
}

fn warn_of_clock_skew(spans: &mut [Span]) {
    let timings = spans.iter().map(|span| SpanTiming {
        id: span.id,
        parent: span.parent(),
        start: span.start,
        duration: span.duration,
        host: host(&span.process),
    });
    let missing = |parent| format!("invalid parent span IDs={parent:016x}; skipping clock skew adjustment");
    let warnings = clock_skew::warnings(&timings.collect::<Vec<_>>(), missing);
    spans.iter_mut().zip(warnings).for_each(|(span, warnings)| span.warnings.extend(warnings));
}

fn host(process: &Process) -> String {
    match process.tags.iter().find(|tag| tag.key == "ip").map(|tag| &tag.value) {
        Some(TagValue::Text(text)) => text.clone(),
        Some(TagValue::Int(number)) => Ipv4Addr::from(*number as u32).to_string(),
        _ => String::new(),
    }
}

fn show_addresses(spans: &mut [Span]) {
    spans.iter_mut().for_each(|span| _ = show_address(&mut span.tags));
    change_processes(spans, |process| {
        let mut process = process.clone();
        show_address(&mut process.tags).then_some(process)
    });
}

fn show_address(tags: &mut [Tag]) -> bool {
    let mut changed = false;
    for tag in tags.iter_mut().filter(|tag| ADDRESS_TAGS.contains(&tag.key.as_str())) {
        let number = match tag.value {
            TagValue::Int(number) => number as u32,
            TagValue::Double(number) => number as u32,
            _ => continue,
        };
        tag.value = TagValue::Text(Ipv4Addr::from(number).to_string());
        changed = true;
    }
    changed
}

fn move_to_process(spans: &mut [Span]) {
    for span in spans {
        let moved: Vec<_> = span.tags.extract_if(.., |tag| PROCESS_TAGS.contains(&tag.key.as_str())).collect();
        if !moved.is_empty() {
            let process = Arc::make_mut(&mut span.process);
            process.tags.extend(moved);
            process.tags.sort_by(Tag::order);
        }
    }
}

fn remove_invalid_references(spans: &mut [Span]) {
    for span in spans {
        let gone = span.references.extract_if(.., |reference| reference.trace == 0);
        span.warnings.extend(gone.map(|SpanRef { kind, span, .. }| {
            let kind = match kind {
                RefType::ChildOf => "CHILD_OF",
                RefType::FollowsFrom => "FOLLOWS_FROM",
            };
            format!("Invalid span reference removed {{TraceID:0000000000000000 SpanID:{span:016x} RefType:{kind}}}")
        }));
    }
}

fn put_parents_first(spans: &mut [Span]) {
    for span in spans {
        let trace = span.trace;
        let here = |wanted: Option<RefType>| {
            let fits = move |kind: RefType| wanted.is_none_or(|wanted| wanted == kind);
            span.references.iter().position(|reference| reference.trace == trace && fits(reference.kind))
        };
        if let Some(at) = here(Some(RefType::ChildOf)).or_else(|| here(None)) {
            span.references.swap(0, at);
        }
    }
}

//! Conformance with W3C Trace Context, levels 1 and 2, from the headers of a request to those of its outgoing calls.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::SpanKind;

use super::Propagators;
use crate::trace::pipeline::Pipeline;
use crate::trace::resource::Resource;
use crate::trace::settings::Settings;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// The trace context of one outgoing call.
#[derive(Debug)]
struct Sent {
    trace: String,
    parent: String,
    flags: u8,
    state: Option<String>,
}

/// The trace contexts of this many outgoing calls of a request with these headers.
fn calls(fields: &[(&str, &str)], count: usize) -> Vec<Sent> {
    let mut settings = Settings::default();
    for signal in [&mut settings.traces, &mut settings.metrics, &mut settings.logs] {
        signal.exporters.clear();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pipeline = runtime.block_on(async { Pipeline::start(settings).unwrap() });
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        // As a server passes them on: names in any case, values without surrounding whitespace.
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value.trim_matches([' ', '\t'])).unwrap());
    }
    let resource: Arc<Resource> = Resource::new("relay", "1.0.0", &[]);
    let incoming = Propagators::default().extract(&headers);
    let mut recorder = pipeline.record(&resource, &incoming, "POST /", SpanKind::Server);
    let sent = (0..count).map(|_| {
        let call = recorder.start("POST", SpanKind::Client, recorder.server());
        let mut sent = HeaderMap::new();
        Propagators::default().inject(&recorder.context_of(call), None, &mut sent);
        assert_eq!(sent.get_all("traceparent").iter().count(), 1);
        read(&sent)
    });
    sent.collect()
}

fn read(sent: &HeaderMap) -> Sent {
    let text = |name: &str| sent.get(name).map(|value| value.to_str().unwrap().to_owned());
    let parent = text("traceparent").unwrap();
    let parts: Vec<_> = parent.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else { panic!("{parent}") };
    assert_eq!((*version, trace.len(), parent.len()), ("00", 32, 16));
    let flags = u8::from_str_radix(flags, 16).unwrap();
    Sent { trace: (*trace).to_owned(), parent: (*parent).to_owned(), flags, state: text("tracestate") }
}

/// The trace context of an outgoing call of a request with this `traceparent`.
fn with_parent(parent: &str) -> Sent {
    calls(&[("traceparent", parent)], 1).remove(0)
}

/// The `tracestate` of an outgoing call of a request with these headers.
fn with_states(states: &[&str]) -> Option<String> {
    let parent = format!("00-{TRACE}-{CALLER}-00");
    let fields = states.iter().map(|state| ("tracestate", *state));
    let sent = calls(&[("traceparent", parent.as_str())].into_iter().chain(fields).collect::<Vec<_>>(), 1).remove(0);
    assert_eq!(sent.trace, TRACE, "a tracestate does not affect the traceparent");
    sent.state
}

#[test]
fn a_request_without_trace_context_starts_a_trace() {
    let sent = calls(&[], 1).remove(0);
    assert_ne!(sent.trace, "0".repeat(32));
    assert_ne!(sent.parent, "0".repeat(16));
    assert_eq!(sent.state, None);
    assert_eq!(sent.flags, 0x03, "sampled, and its id is random");
}

#[test]
fn the_trace_continues_with_a_new_parent() {
    for name in ["traceparent", "Traceparent", "TraceParent", "TRACEPARENT", "tRaCePaReNt"] {
        let sent = calls(&[(name, &format!("00-{TRACE}-{CALLER}-01"))], 1).remove(0);
        assert_eq!(sent.trace, TRACE, "{name}");
        assert_ne!(sent.parent, CALLER, "{name}");
    }
    for padded in [" ", "\t", " \t ", "\t \t"] {
        assert_eq!(with_parent(&format!("{padded}00-{TRACE}-{CALLER}-01{padded}")).trace, TRACE);
    }
}

#[test]
fn similar_header_names_are_ignored() {
    for name in ["trace-parent", "trace.parent", "trace_parent", "xtraceparent"] {
        assert_ne!(calls(&[(name, &format!("00-{TRACE}-{CALLER}-01"))], 1).remove(0).trace, TRACE, "{name}");
    }
    for name in ["trace-state", "trace.state", "trace_state"] {
        let parent = format!("00-{TRACE}-{CALLER}-00");
        assert_eq!(calls(&[("traceparent", &parent), (name, "rojo=1")], 1).remove(0).state, None, "{name}");
    }
}

#[test]
fn two_traceparents_are_ignored_even_if_equal() {
    let (one, other) = (format!("00-{TRACE}-{CALLER}-01"), format!("00-{}-{CALLER}-01", "7".repeat(32)));
    for fields in [[("traceparent", &one), ("traceparent", &other)], [("traceparent", &one), ("traceparent", &one)]] {
        let sent = calls(&fields.map(|(name, value)| (name, value.as_str())), 1).remove(0);
        assert!(sent.trace != TRACE && sent.trace != "7".repeat(32), "{sent:?}");
    }
}

#[test]
fn a_traceparent_that_breaks_the_grammar_starts_a_trace_without_the_callers_state() {
    let bad = [
        format!("00-{TRACE}-{CALLER}-01."),
        format!("00-{TRACE}-{CALLER}-01-more"),
        format!("ff-{TRACE}-{CALLER}-01"),
        format!("cc-{TRACE}-{CALLER}-01.more"),
        format!("cc-{TRACE}-{CALLER}-01x"),
        format!(".0-{TRACE}-{CALLER}-01"),
        format!("0.-{TRACE}-{CALLER}-01"),
        format!("0-{TRACE}-{CALLER}-01"),
        format!("000-{TRACE}-{CALLER}-01"),
        format!("0000-{TRACE}-{CALLER}-01"),
        format!("00-{}-{CALLER}-01", "0".repeat(32)),
        format!("00-.{}-{CALLER}-01", &TRACE[1..]),
        format!("00-{}.-{CALLER}-01", &TRACE[1..]),
        format!("00-{TRACE}0-{CALLER}-01"),
        format!("00-{}-{CALLER}-01", &TRACE[1..]),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{TRACE}-.{}-01", &CALLER[1..]),
        format!("00-{TRACE}-{}.-01", &CALLER[1..]),
        format!("00-{TRACE}-{CALLER}0-01"),
        format!("00-{TRACE}-{}-01", &CALLER[1..]),
        format!("00-{TRACE}-{CALLER}-.0"),
        format!("00-{TRACE}-{CALLER}-0."),
        format!("00-{TRACE}-{CALLER}-001"),
        format!("00-{TRACE}-{CALLER}-1"),
        format!("00-{}-{CALLER}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{CALLER}"),
        format!("00-{TRACE}--01"),
    ];
    for parent in &bad {
        let sent = calls(&[("traceparent", parent), ("tracestate", "rojo=1")], 1).remove(0);
        assert!(!TRACE.contains(&sent.trace) && !sent.trace.contains(&TRACE[1..]), "{parent}: {sent:?}");
        assert_ne!(sent.trace, "0".repeat(32), "{parent}");
        assert_eq!(sent.state, None, "{parent}");
    }
}

#[test]
fn the_known_fields_of_a_later_version_are_read() {
    for parent in [format!("cc-{TRACE}-{CALLER}-01"), format!("cc-{TRACE}-{CALLER}-01-a-future-field")] {
        assert_eq!(with_parent(&parent).trace, TRACE, "{parent}");
    }
}

#[test]
fn only_known_flags_are_propagated() {
    for (caller, sent) in [("00", 0x00), ("01", 0x01), ("02", 0x02), ("03", 0x03), ("fc", 0x00), ("ff", 0x03)] {
        assert_eq!(with_parent(&format!("00-{TRACE}-{CALLER}-{caller}")).flags, sent, "{caller}");
    }
}

#[test]
fn every_call_has_its_own_parent_in_the_same_trace() {
    let good = format!("00-{TRACE}-{CALLER}-01");
    let zero = format!("00-{}-{CALLER}-01", "0".repeat(32));
    for fields in [vec![("traceparent", good.as_str())], vec![], vec![("traceparent", zero.as_str())]] {
        let sent = calls(&fields, 3);
        assert_eq!(sent.iter().map(|sent| &sent.parent).collect::<BTreeSet<_>>().len(), 3, "{sent:?}");
        assert_eq!(sent.iter().map(|sent| &sent.trace).collect::<BTreeSet<_>>().len(), 1, "{sent:?}");
    }
}

#[test]
fn tracestate_is_propagated_in_order() {
    for (states, expected) in [
        (&["rojo=1,congo=2"][..], "rojo=1,congo=2"),
        (&["rojo=1,congo=2", "a=1,b=2", "c=3"], "rojo=1,congo=2,a=1,b=2,c=3"),
        (&["", "rojo=1"], "rojo=1"),
        (&["rojo=1", ""], "rojo=1"),
        (&["rojo=1 \t , \t congo=2, \t a=3"], "rojo=1,congo=2,a=3"),
        (&["rojo=1\t \t,\t \tcongo=2,\t \ta=3"], "rojo=1,congo=2,a=3"),
        (&["\t rojo=1 \t"], "rojo=1"),
        // Since level 2 an at sign is an ordinary character, except in the first position.
        (&["foo@=1,bar=2"], "foo@=1,bar=2"),
        (&["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2"),
        (&["foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2"),
    ] {
        assert_eq!(with_states(states).as_deref(), Some(expected), "{states:?}");
    }
    for name in ["TraceState", "TRACESTATE", "tRaCeStAtE"] {
        let parent = format!("00-{TRACE}-{CALLER}-00");
        let sent = calls(&[("traceparent", parent.as_str()), (name, "rojo=1")], 1).remove(0);
        assert_eq!(sent.state.as_deref(), Some("rojo=1"), "{name}");
    }
}

#[test]
fn all_allowed_characters_are_propagated() {
    let key: String = ('a'..='z').chain('0'..='9').chain("_-*/".chars()).collect();
    let value: String = (' '..='~').filter(|letter| *letter != ',' && *letter != '=').collect();
    for key in [key.clone(), format!("{key}@a-z0-9_-*/")] {
        let state = format!("{key}={value}");
        assert_eq!(with_states(&[&state]).as_deref(), Some(state.as_str()));
    }
}

#[test]
fn keys_and_members_have_limits() {
    for key in ["z".repeat(256), format!("{}@{}", "t".repeat(241), "v".repeat(14)), format!("t@{}", "v".repeat(15))] {
        let member = format!("{key}=1");
        assert_eq!(with_states(&["foo=1", &member]), Some(format!("foo=1,{member}")));
    }
    assert_eq!(with_states(&["foo=1", &format!("{}=1", "z".repeat(257))]), None);
    let members = |count: usize| (1..=count).map(|index| format!("bar{index:02}={index:02}")).collect::<Vec<_>>();
    let (first, second) = (members(20).join(","), members(32)[20..].join(","));
    assert_eq!(with_states(&[&first, &second]), Some(members(32).join(",")));
    assert_eq!(with_states(&[&first, &second, "bar33=33"]), None);
}

#[test]
fn a_malformed_tracestate_is_inherited_in_no_part() {
    for state in
        ["foo =1", "FOO=1", "foo.bar=1", "@foo=1,bar=2", "foo=bar=baz", "foo=,bar=3", "foo,bar=3", "=1,bar=3", ""]
    {
        assert_eq!(with_states(&[state]), None, "{state}");
        assert_eq!(with_states(&["first=1", state]), if state.is_empty() { Some("first=1".to_owned()) } else { None });
    }
}

#[test]
fn of_members_with_the_same_key_one_is_propagated() {
    for states in [&["foo=1,foo=1"][..], &["foo=1,foo=2"], &["foo=1", "foo=1"], &["foo=1", "foo=2"]] {
        assert_eq!(with_states(states).as_deref(), Some("foo=1"), "{states:?}");
    }
}

#[test]
fn a_tracestate_without_a_traceparent_is_ignored() {
    assert_eq!(calls(&[("tracestate", "foo=1,bar=2")], 1).remove(0).state, None);
}

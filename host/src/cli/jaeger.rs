//! Parses traces from the JSON of Jaeger's query API (v1), for the terminal.
//!
//! Missing fields and fields of another type are omitted: the response may come from another version of the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value as Json;

use crate::console::{AttributeModel, Event, SpanKindModel, SpanModel, TraceModel, ValueModel, find};

/// The field with the name of an event.
const EVENT_NAME: &str = "event";

/// The first trace of a response, if it has spans.
pub(super) fn trace(answer: &Json) -> Option<TraceModel> {
    let data = answer["data"].get(0)?;
    let services = data["processes"].as_object().into_iter().flatten();
    let services: HashMap<&str, &str> =
        services.map(|(id, process)| (id.as_str(), process["serviceName"].as_str().unwrap_or("-"))).collect();
    let id = data["traceID"].as_str()?.to_owned();
    let spans: Vec<_> = data["spans"].as_array()?.iter().filter_map(|one| span(one, &id, &services)).collect();
    (!spans.is_empty()).then(|| TraceModel::new(id, spans, Vec::new()))
}

fn span(span: &Json, trace: &str, services: &HashMap<&str, &str>) -> Option<SpanModel> {
    let attributes = attributes(&span["tags"]);
    let tag = |key| find(&attributes, key).map(ValueModel::to_string);
    let failed = tag("error").as_deref() == Some("true");
    Some(SpanModel {
        id: span["spanID"].as_str()?.to_owned(),
        parent: parent(span, trace),
        service: services.get(span["processID"].as_str()?).copied().unwrap_or("-").to_owned(),
        name: span["operationName"].as_str().unwrap_or_default().to_owned(),
        kind: kind(tag("span.kind").as_deref()),
        start: SystemTime::UNIX_EPOCH + Duration::from_micros(span["startTime"].as_u64().unwrap_or_default()),
        duration: Duration::from_micros(span["duration"].as_u64().unwrap_or_default()),
        error: failed.then(|| tag("otel.status_description").unwrap_or_default()),
        attributes,
        dropped: 0,
        events: span["logs"].as_array().into_iter().flatten().map(event).collect(),
        links: Vec::new(),
        resource: Arc::default(),
    })
}

/// A span event. Its name is the field `event`.
fn event(log: &Json) -> Event {
    let mut attributes = attributes(&log["fields"]);
    let name = find(&attributes, EVENT_NAME).map_or("event".to_owned(), ValueModel::to_string);
    attributes.retain(|attribute| attribute.key != EVENT_NAME);
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(log["timestamp"].as_u64().unwrap_or_default());
    Event { name, time, attributes }
}

/// The first child-of reference to the trace, else the first reference to it: Jaeger writes the parent as follows-from
/// if the span also has a link to it.
fn parent(span: &Json, trace: &str) -> Option<String> {
    let here = || span["references"].as_array().into_iter().flatten().filter(|one| one["traceID"] == trace);
    let parent = here().find(|one| one["refType"] == "CHILD_OF").or_else(|| here().next())?;
    Some(parent["spanID"].as_str()?.to_owned())
}

fn attributes(tags: &Json) -> Vec<AttributeModel> {
    let tag = |tag: &Json| {
        let value = match &tag["value"] {
            Json::String(text) => ValueModel::Text(text.clone()),
            Json::Bool(truth) => ValueModel::Bool(*truth),
            Json::Number(number) => match number.as_i64() {
                Some(number) => ValueModel::Int(number),
                None => ValueModel::Double(number.as_f64()?),
            },
            _ => return None,
        };
        Some(AttributeModel { key: tag["key"].as_str()?.to_owned(), value })
    };
    tags.as_array().into_iter().flatten().filter_map(tag).collect()
}

fn kind(name: Option<&str>) -> SpanKindModel {
    match name {
        Some("server") => SpanKindModel::Server,
        Some("client") => SpanKindModel::Client,
        Some("producer") => SpanKindModel::Producer,
        Some("consumer") => SpanKindModel::Consumer,
        _ => SpanKindModel::Internal,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_are_parsed_with_service_parent_kind_and_error() {
        let tag = |key: &str, value: Json| json!({"key": key, "type": "string", "value": value});
        let answer = json!({"data": [{
            "traceID": "ab",
            "processes": {"p1": {"serviceName": "user"}, "p2": {"serviceName": "product"}},
            "spans": [
                {"spanID": "2", "operationName": "GET", "processID": "p2", "startTime": 5, "duration": 3,
                 "references": [{"refType": "CHILD_OF", "traceID": "ab", "spanID": "1"}],
                 "tags": [tag("span.kind", json!("client")), tag("error", json!(true)),
                          tag("otel.status_description", json!("timeout"))]},
                {"spanID": "1", "operationName": "GET /", "processID": "p1", "startTime": 1, "duration": 9,
                 "references": [], "tags": [],
                 "logs": [{"timestamp": 4, "fields": [tag("event", json!("exception")), tag("a", json!("b"))]}]},
            ],
        }]});
        let trace = trace(&answer).unwrap();
        let [root, call] = trace.nodes.as_slice() else { panic!("{trace:?}") };
        assert_eq!((root.span.service.as_str(), root.depth), ("user", 0));
        let event = &root.span.events[0];
        assert_eq!((event.name.as_str(), event.attributes.len()), ("exception", 1));
        assert_eq!(event.time.duration_since(root.span.start).unwrap(), Duration::from_micros(3));
        assert_eq!((call.span.service.as_str(), call.depth, call.span.kind), ("product", 1, SpanKindModel::Client));
        assert_eq!(call.span.error.as_deref(), Some("timeout"));
    }

    #[test]
    fn a_span_that_links_to_its_parent_is_below_it() {
        let span = |id: &str, references: Json| json!({"spanID": id, "processID": "p1", "references": references});
        let reference =
            |kind: &str, trace: &str, span: &str| json!({"refType": kind, "traceID": trace, "spanID": span});
        let answer = json!({"data": [{
            "traceID": "ab",
            "processes": {"p1": {"serviceName": "user"}},
            "spans": [
                span("1", json!([])),
                span("2", json!([reference("FOLLOWS_FROM", "ab", "1")])),
                span("3", json!([reference("FOLLOWS_FROM", "ab", "1"), reference("CHILD_OF", "ab", "2")])),
                span("4", json!([reference("FOLLOWS_FROM", "cd", "1"), reference("CHILD_OF", "cd", "2")])),
            ],
        }]});
        let depths: Vec<_> =
            trace(&answer).unwrap().nodes.iter().map(|node| (node.span.id.clone(), node.depth)).collect();
        assert_eq!(depths, [("1", 0), ("2", 1), ("3", 2), ("4", 0)].map(|(id, depth)| (id.to_owned(), depth)));
    }

    #[test]
    fn a_response_of_another_shape_has_no_trace() {
        for answer in [json!({}), json!({"data": []}), json!({"data": [{"traceID": "ab", "spans": []}]}), json!(1)] {
            assert!(trace(&answer).is_none(), "{answer}");
        }
    }
}

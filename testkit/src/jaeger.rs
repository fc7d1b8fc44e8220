//! Normalises responses of Jaeger's query API, independent of their order.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{Answer, Client};

/// Spans of several services as an OTLP request in JSON, with every kind of attribute, event, link and status, and with
/// clock skew.
pub const SPANS: &str = include_str!("../tests/jaeger/spans.json");
/// Requests to the query API, one path per line.
pub const REQUESTS: &str = include_str!("../tests/jaeger/requests.txt");

/// Sends [`SPANS`] to an OTLP/HTTP receiver.
pub async fn send_spans(otlp: SocketAddr) {
    let request = Client::default().request("POST", otlp, "/v1/traces").untraced();
    let answer = request.header("content-type", "application/json").body(SPANS).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The response to one request as `{"status": .., "body": ..}`, in the form of [`normal`].
pub async fn ask(address: SocketAddr, path: &str) -> Value {
    let answer: Answer = Client::default().request("GET", address, path).untraced().send().await;
    json!({ "status": answer.status.as_u16(), "body": normal(answer.json()) })
}

/// A body without irrelevant differences: the order of lists, the keys of processes, whether spans of one Resource are
/// in one group or several, and whether a whole number has a decimal point.
pub fn normal(body: Value) -> Value {
    sorted(match body {
        Value::Object(mut body) if body.get("data").is_some_and(Value::is_array) => {
            if let Some(Value::Array(traces)) = body.get_mut("data") {
                traces.iter_mut().for_each(inline_processes);
            }
            Value::Object(body)
        }
        Value::Object(mut body) if body.get("result").is_some() => {
            let groups = body["result"]["resourceSpans"].take();
            body.insert("result".to_owned(), by_resource(groups));
            Value::Object(body)
        }
        other => other,
    })
}

/// Replaces the key of each span's process by the process.
fn inline_processes(trace: &mut Value) {
    let Some(processes) = trace.as_object_mut().and_then(|trace| trace.remove("processes")) else { return };
    for span in trace["spans"].as_array_mut().into_iter().flatten() {
        let key = span["processID"].as_str().unwrap_or_default().to_owned();
        span["processID"] = processes[&key].clone();
    }
}

/// The spans of all groups, each with its Resource and scope.
fn by_resource(groups: Value) -> Value {
    let mut spans = Vec::new();
    for group in groups.as_array().into_iter().flatten() {
        for scoped in group["scopeSpans"].as_array().into_iter().flatten() {
            for span in scoped["spans"].as_array().into_iter().flatten() {
                spans.push(json!({ "resource": group["resource"], "scope": scoped["scope"], "span": span }));
            }
        }
    }
    spans.into()
}

/// Jaeger's in-memory store keeps the warnings that its v3 API adds, and adds them again with each response.
fn said_once(mut pair: Value) -> Value {
    if pair["key"] == "@jaeger@warnings"
        && let Some(Value::Array(warnings)) = pair.pointer_mut("/value/arrayValue/values")
    {
        warnings.dedup();
    }
    pair
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(values) => {
            let mut values: Vec<_> = values.into_iter().map(sorted).collect();
            values.sort_by_cached_key(Value::to_string);
            values.into()
        }
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            said_once(fields.into_iter().collect())
        }
        Value::Number(number) => match number.as_f64() {
            Some(whole) if number.is_f64() && whole.fract() == 0.0 => json!(whole as i64),
            _ => Value::Number(number),
        },
        other => other,
    }
}

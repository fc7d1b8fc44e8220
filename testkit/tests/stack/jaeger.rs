//! Traces from Jaeger's query API.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Client;

use crate::rounds;
use crate::running::Stack;

/// Spans pass two batch processors and an index that is refreshed once a second.
const ARRIVAL: Duration = Duration::from_secs(120);

/// One trace in Jaeger's format.
pub struct Trace(Value);

/// Waits for the trace with this session id to have this many spans.
pub async fn trace(stack: &Stack, session: &str, spans: usize) -> Trace {
    match arrival(stack, session, spans, ARRIVAL).await {
        Ok(trace) => trace,
        Err(Some(trace)) => {
            panic!("only {} of {spans} spans of {session} came:\n{}", trace.spans().len(), trace.tree())
        }
        Err(None) => panic!("no span of {session} came\n{}", stack.said()),
    }
}

/// Whether this many spans of a session arrive in time.
pub async fn arrives(stack: &Stack, session: &str, spans: usize, patience: Duration) -> bool {
    arrival(stack, session, spans, patience).await.is_ok()
}

/// The complete trace, or else the incomplete one, if any.
async fn arrival(stack: &Stack, session: &str, spans: usize, patience: Duration) -> Result<Trace, Option<Trace>> {
    let (deadline, mut rounds) = (Instant::now() + patience, rounds());
    loop {
        rounds.tick().await;
        match find(stack, session).await {
            Some(trace) if trace.spans().len() >= spans => return Ok(trace),
            partial if Instant::now() >= deadline => return Err(partial),
            _ => {}
        }
    }
}

async fn find(stack: &Stack, session: &str) -> Option<Trace> {
    // {"business.session_id":"..."}
    let tags = format!("%7B%22business.session_id%22%3A%22{session}%22%7D");
    let path = format!("/api/traces?service=user-service&lookback=1h&limit=5&tags={tags}");
    // `None` while Jaeger is starting, as one test restarts it.
    let answer = Client::default().request("GET", stack.address("jaeger"), &path).try_send().await.ok()?;
    let found = serde_json::from_slice::<Value>(&answer.body).ok()?["data"].as_array()?.clone();
    assert!(found.len() <= 1, "{session} is in {} traces", found.len());
    found.into_iter().next().map(Trace)
}

impl Trace {
    /// Its spans, in no particular order.
    pub fn spans(&self) -> &[Value] {
        self.0["spans"].as_array().map_or(&[], Vec::as_slice)
    }

    /// A line for each span, indented below its parent: service, name and kind. Siblings are sorted by name.
    pub fn tree(&self) -> String {
        let mut children: HashMap<Option<&str>, Vec<&Value>> = HashMap::new();
        for span in self.spans() {
            children.entry(parent(span)).or_default().push(span);
        }
        let mut text = String::new();
        self.write(&children, None, 0, &mut text);
        text
    }

    fn write(&self, children: &HashMap<Option<&str>, Vec<&Value>>, of: Option<&str>, depth: usize, text: &mut String) {
        let mut spans = children.get(&of).cloned().unwrap_or_default();
        spans.sort_by_key(|span| span["operationName"].as_str());
        for span in spans {
            let (name, kind) = (span["operationName"].as_str().unwrap_or_default(), tag(span, "span.kind"));
            let kind = kind.and_then(Value::as_str).unwrap_or("none");
            text.push_str(&format!("{}{} {name} {kind}\n", "  ".repeat(depth), self.service(span)));
            self.write(children, span["spanID"].as_str(), depth + 1, text);
        }
    }

    /// Panics if Jaeger reports warnings.
    pub fn assert_no_warnings(&self) {
        assert!(self.0["warnings"].is_null(), "{}", self.0["warnings"]);
        for span in self.spans() {
            assert!(span["warnings"].is_null() || span["warnings"] == json!([]), "{span}");
        }
    }

    fn service(&self, span: &Value) -> &str {
        let process = span["processID"].as_str().unwrap_or_default();
        self.0["processes"][process]["serviceName"].as_str().unwrap_or_default()
    }
}

fn parent(span: &Value) -> Option<&str> {
    let references = span["references"].as_array()?;
    references.iter().find(|reference| reference["refType"] == "CHILD_OF")?["spanID"].as_str()
}

/// The value of a span's tag.
pub fn tag<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
    span["tags"].as_array()?.iter().find(|tag| tag["key"] == key).map(|tag| &tag["value"])
}

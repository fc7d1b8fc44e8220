//! An in-memory host for native tests.
//!
//! All state is in one thread-local [`State`], so concurrent tests do not share it. [`crate::testing::Host`] sets it up and
//! reads it.

mod mock_responses;
mod records;

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value as Json;

pub use self::mock_responses::CallMatcher;
pub use self::records::{Call, LogRecord, SpanRecord};
pub use super::types::*;
use mock_responses::MockResponses;

/// The configuration of the in-memory host, and what it has recorded.
pub struct State {
    pub recording: bool,
    pub config: BTreeMap<String, String>,
    pub mock_responses: MockResponses,
    pub buckets: BTreeMap<(String, String), Vec<u8>>,
    pub server: SpanRecord,
    pub spans: Vec<SpanRecord>,
    pub logs: Vec<LogRecord>,
    pub calls: Vec<Call>,
    pub span_calls: usize,
    pub counters: BTreeMap<Series, u64>,
    pub histograms: BTreeMap<Series, Vec<f64>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            recording: true,
            config: BTreeMap::new(),
            mock_responses: MockResponses::default(),
            buckets: BTreeMap::new(),
            server: new_span("SERVER", SpanKind::Server, None),
            spans: Vec::new(),
            logs: Vec::new(),
            calls: Vec::new(),
            span_calls: 0,
            counters: BTreeMap::new(),
            histograms: BTreeMap::new(),
        }
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Accesses the in-memory host of this thread.
pub fn with_state<T>(access: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(access)
}

pub fn recording() -> bool {
    with_state(|state| state.recording)
}

#[derive(Debug)]
pub struct Span {
    index: usize,
}

impl Span {
    pub fn start<'a>(
        name: &str,
        kind: SpanKind,
        parent: Option<&Span>,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
    ) -> Self {
        with_state(|state| {
            state.span_calls += 1;
            let parent = parent.map(|parent| state.spans[parent.index].name.clone());
            state.spans.push(SpanRecord { attributes: attribute_map(attributes), ..new_span(name, kind, parent) });
            Self { index: state.spans.len() - 1 }
        })
    }

    pub fn rename(&self, name: &str) {
        self.update(|span| span.name = name.to_owned());
    }

    pub fn set_attributes<'a>(&self, attributes: impl IntoIterator<Item = Attribute<'a>>) {
        self.update(|span| span.attributes.extend(attribute_map(attributes)));
    }

    pub fn add_event(&self, name: &str, attributes: &[Attribute<'_>]) {
        self.update(|span| span.events.push((name.to_owned(), attribute_map(attributes.iter().cloned()))));
    }

    pub fn set_error(&self, kind: &str, message: &str) {
        self.update(|span| span.error = Some((kind.to_owned(), message.to_owned())));
    }

    pub fn set_ok(&self) {
        self.update(|span| span.ok = true);
    }

    fn update(&self, update: impl FnOnce(&mut SpanRecord)) {
        with_state(|state| {
            state.span_calls += 1;
            if let Some(span) = state.spans.get_mut(self.index) {
                update(span);
            }
        });
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.update(|span| span.ended = true);
    }
}

fn new_span(name: &str, kind: SpanKind, parent: Option<String>) -> SpanRecord {
    let name = name.to_owned();
    let (attributes, events) = (BTreeMap::new(), Vec::new());
    SpanRecord { name, kind, parent, attributes, events, ok: false, error: None, ended: false }
}

pub fn add_request_event(name: &str, attributes: &[Attribute<'_>]) {
    with_state(|state| state.server.events.push((name.to_owned(), attribute_map(attributes.iter().cloned()))));
}

pub fn set_request_error(kind: &str, message: &str) {
    with_state(|state| state.server.error = Some((kind.to_owned(), message.to_owned())));
}

fn attribute_map<'a>(attributes: impl IntoIterator<Item = Attribute<'a>>) -> BTreeMap<String, Json> {
    attributes.into_iter().map(|attribute| (attribute.key.to_owned(), json(&attribute.value))).collect()
}

fn json(value: &Value<'_>) -> Json {
    match value {
        Value::Text(text) => Json::from(*text),
        Value::Int(number) => Json::from(*number),
        Value::Double(number) => Json::from(*number),
        Value::Boolean(boolean) => Json::from(*boolean),
        Value::Texts(texts) => Json::from(texts.to_vec()),
    }
}

pub fn log(severity: Severity, body: &str, span: Option<&Span>, attributes: &[Attribute<'_>]) {
    with_state(|state| {
        let record = LogRecord {
            severity: format!("{severity:?}").to_lowercase(),
            body: body.to_owned(),
            span: span.map(|span| state.spans[span.index].name.clone()),
            attributes: attribute_map(attributes.iter().cloned()),
        };
        state.logs.push(record);
    });
}

pub fn fetch(request: Outgoing<'_>, parent: Option<&Span>) -> Result<Response, FetchError> {
    mock_response(&request, parent, None)
}

pub fn fetch_within(request: Outgoing<'_>, parent: Option<&Span>, timeout_ms: u32) -> Result<Response, FetchError> {
    mock_response(&request, parent, Some(timeout_ms))
}

pub fn fetch_all_within(requests: &[Limited<'_>], parent: Option<&Span>) -> Vec<Result<Response, FetchError>> {
    requests.iter().map(|limited| mock_response(&limited.request, parent, limited.timeout_ms)).collect()
}

/// The name of an instrument, and the labels of a measurement ordered by key.
pub type Series = (String, BTreeMap<String, String>);

fn series(name: &str, labels: &[Label<'_>]) -> Series {
    let labels = labels.iter().map(|label| (label.key.to_owned(), label.value.to_owned()));
    (name.to_owned(), labels.collect())
}

/// Instruments are statics that outlive a test host, so a handle contains only the name.
#[derive(Debug)]
pub struct Counter {
    name: String,
}

impl Counter {
    pub fn create(name: &str, _unit: &str, _description: &str) -> Result<Self, MetricError> {
        Ok(Self { name: name.to_owned() })
    }

    pub fn add(&self, value: u64, labels: &[Label<'_>]) {
        with_state(|state| *state.counters.entry(series(&self.name, labels)).or_default() += value);
    }
}

#[derive(Debug)]
pub struct Histogram {
    name: String,
}

impl Histogram {
    pub fn create(name: &str, _unit: &str, _description: &str, _boundaries: &[f64]) -> Result<Self, MetricError> {
        Ok(Self { name: name.to_owned() })
    }

    pub fn record(&self, value: f64, labels: &[Label<'_>]) {
        with_state(|state| state.histograms.entry(series(&self.name, labels)).or_default().push(value));
    }
}

fn header_text(header: &Header) -> (String, String) {
    (header.name.clone(), String::from_utf8_lossy(&header.value).into_owned())
}

fn mock_response(
    request: &Outgoing<'_>,
    parent: Option<&Span>,
    timeout_ms: Option<u32>,
) -> Result<Response, FetchError> {
    with_state(|state| {
        let call = Call {
            method: request.method,
            url: request.url.to_owned(),
            headers: request.headers.iter().map(|header| header_text(header)).collect(),
            body: request.body.to_vec(),
            parent: parent.map(|span| state.spans[span.index].name.clone()),
            timeout_ms,
        };
        state.calls.push(call);
        state.mock_responses.next_response(request.method, request.url)
    })
}

pub fn config_get(key: &str) -> Result<Option<String>, ConfigError> {
    Ok(with_state(|state| state.config.get(key).cloned()))
}

#[derive(Debug)]
pub struct Bucket {
    name: String,
}

pub fn open(identifier: &str) -> Result<Bucket, StoreError> {
    Ok(Bucket { name: identifier.to_owned() })
}

impl Bucket {
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(with_state(|state| state.buckets.get(&self.key_of(key)).cloned()))
    }

    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        with_state(|state| state.buckets.insert(self.key_of(key), value.to_vec()));
        Ok(())
    }

    pub fn delete(&self, key: &str) -> Result<(), StoreError> {
        with_state(|state| state.buckets.remove(&self.key_of(key)));
        Ok(())
    }

    fn key_of(&self, key: &str) -> (String, String) {
        (self.name.clone(), key.to_owned())
    }
}

#[derive(Debug)]
pub struct Cas {
    bucket: String,
    key: String,
    observed: Option<Vec<u8>>,
}

#[derive(Debug)]
#[allow(dead_code, reason = "the in-memory host has no errors of this kind, but callers handle them")]
pub enum CasError {
    StoreError(StoreError),
    CasFailed(Cas),
}

impl Cas {
    pub fn new(bucket: &Bucket, key: &str) -> Result<Self, StoreError> {
        Ok(Self { bucket: bucket.name.clone(), key: key.to_owned(), observed: bucket.get(key)? })
    }

    pub fn current(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.observed.clone())
    }
}

pub fn swap(cas: Cas, value: &[u8]) -> Result<(), CasError> {
    let key_in_bucket = (cas.bucket.clone(), cas.key.clone());
    with_state(|state| {
        let now = state.buckets.get(&key_in_bucket).cloned();
        if now != cas.observed {
            return Err(CasError::CasFailed(Cas { observed: now, ..cas }));
        }
        state.buckets.insert(key_in_bucket, value.to_vec());
        Ok(())
    })
}

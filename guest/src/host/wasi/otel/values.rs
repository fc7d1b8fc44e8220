//! Converts values to the types of `wasi:otel`: attributes are JSON text, times are seconds and nanoseconds.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::host::{Attribute, Value};
use crate::proposals::wasi::clocks::wall_clock::Datetime;
use crate::proposals::wasi::otel::types::{InstrumentationScope, KeyValue};

pub fn attribute(Attribute { key, value }: Attribute<'_>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: json(&value) }
}

/// A string as JSON text.
pub fn text(text: &str) -> String {
    json(&Value::Text(text))
}

/// Converts a value to JSON text. `NaN` and infinities become strings, because JSON does not have them.
fn json(value: &Value<'_>) -> String {
    let json = match value {
        Value::Text(text) => serde_json::Value::from(*text),
        Value::Int(number) => serde_json::Value::from(*number),
        Value::Double(number) if number.is_finite() => serde_json::Value::from(*number),
        Value::Double(number) => serde_json::Value::from(number.to_string()),
        Value::Boolean(truth) => serde_json::Value::from(*truth),
        Value::Texts(texts) => serde_json::Value::from(texts.to_vec()),
    };
    json.to_string()
}

/// The current wall clock time.
pub fn now() -> Datetime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() }
}

/// The instrumentation scope: this library.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        schema_url: None,
        attributes: Vec::new(),
    }
}

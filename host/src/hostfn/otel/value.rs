//! Values of `wasi:otel`, which come as JSON text, as the host records them.

use serde_json::Value as Json;

use crate::component::standard_bindings::wasi::otel::types::KeyValue;
use crate::trace::{Attribute, Value};

/// The longest JSON that is read, in bytes: what was read takes several times the room of the text.
const LONGEST: usize = 64 << 10;

/// A value that a guest gave.
#[derive(Debug, PartialEq)]
pub(super) enum GuestValue {
    Text(String),
    Int(i64),
    Double(f64),
    Boolean(bool),
    Texts(Vec<String>),
}

/// Attributes that a guest gave.
pub(super) struct GuestAttributes(Vec<(String, GuestValue)>);

impl GuestValue {
    /// Reads JSON. What is none, or is too long, is taken as the text that it is: no SDK's slip may lose data.
    pub fn parse(text: String) -> GuestValue {
        if text.len() > LONGEST {
            return GuestValue::Text(text);
        }
        match serde_json::from_str(&text) {
            Ok(Json::String(text)) => GuestValue::Text(text),
            Ok(Json::Bool(truth)) => GuestValue::Boolean(truth),
            Ok(Json::Number(number)) => match number.as_i64() {
                Some(number) => GuestValue::Int(number),
                None => number.as_f64().map_or(GuestValue::Text(text), GuestValue::Double),
            },
            Ok(Json::Array(items)) if items.iter().all(Json::is_string) => {
                GuestValue::Texts(items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
            }
            _ => GuestValue::Text(text),
        }
    }

    /// The value as text, for where only text can stand.
    pub fn into_text(self) -> String {
        match self {
            GuestValue::Text(text) => text,
            GuestValue::Int(number) => number.to_string(),
            GuestValue::Double(number) => number.to_string(),
            GuestValue::Boolean(truth) => truth.to_string(),
            GuestValue::Texts(texts) => Json::from(texts).to_string(),
        }
    }

    /// The value as the metrics SDK has it.
    pub fn into_opentelemetry(self) -> opentelemetry::Value {
        match self {
            GuestValue::Text(text) => text.into(),
            GuestValue::Int(number) => number.into(),
            GuestValue::Double(number) => number.into(),
            GuestValue::Boolean(truth) => truth.into(),
            GuestValue::Texts(texts) => {
                opentelemetry::Value::Array(opentelemetry::Array::String(texts.into_iter().map(Into::into).collect()))
            }
        }
    }

    fn lend(&self) -> Value<'_> {
        match self {
            GuestValue::Text(text) => Value::Text(text),
            GuestValue::Int(number) => Value::Int(*number),
            GuestValue::Double(number) => Value::Double(*number),
            GuestValue::Boolean(truth) => Value::Boolean(*truth),
            GuestValue::Texts(texts) => Value::Texts(texts.iter().map(String::as_str).collect()),
        }
    }
}

impl GuestAttributes {
    pub fn parse(pairs: Vec<KeyValue>) -> GuestAttributes {
        GuestAttributes(pairs.into_iter().map(|pair| (pair.key, GuestValue::parse(pair.value))).collect())
    }

    /// Adds one that the host knows.
    pub fn add(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), GuestValue::Text(value)));
    }

    /// Keeps those of such keys.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|(key, _)| is_kept(key));
    }

    /// Keeps so many, and so many bytes of each text.
    pub fn cut(&mut self, most: usize, length: usize) {
        self.0.truncate(most);
        for (_, value) in &mut self.0 {
            if let GuestValue::Text(text) = value {
                text.truncate(text.floor_char_boundary(length));
            }
        }
    }

    /// Keys and values in the order of the keys: the same text for the same attributes.
    pub fn sorted_text(&self) -> String {
        let mut pairs: Vec<_> = self.0.iter().map(|(key, value)| (key, format!("{value:?}"))).collect();
        pairs.sort();
        Json::from_iter(
            pairs.into_iter().map(|(key, value)| Json::from(vec![Json::from(key.as_str()), Json::from(value)])),
        )
        .to_string()
    }

    pub fn into_iter(self) -> impl Iterator<Item = (String, GuestValue)> {
        self.0.into_iter()
    }

    /// The attributes, lent to whoever writes them down.
    pub fn lend(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.0.iter().map(|(key, value)| Attribute { key, value: value.lend() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_as_json_text() {
        let check = |text: &str, expected| assert_eq!(GuestValue::parse(text.to_owned()), expected, "{text}");
        check("\"v\"", GuestValue::Text("v".to_owned()));
        check("7", GuestValue::Int(7));
        check("7.5", GuestValue::Double(7.5));
        check("true", GuestValue::Boolean(true));
        check("[\"a\",\"b\"]", GuestValue::Texts(vec!["a".to_owned(), "b".to_owned()]));
        check("[1,2]", GuestValue::Text("[1,2]".to_owned()));
        check("{\"a\":1}", GuestValue::Text("{\"a\":1}".to_owned()));
        check("no json", GuestValue::Text("no json".to_owned()));
        check("", GuestValue::Text(String::new()));
    }
}

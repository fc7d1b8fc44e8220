//! Converts values of `wasi:otel`, which are JSON text.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::component::standard_bindings::wasi::otel::types::KeyValue;
use crate::trace::{Attribute, AttributeLimits, Value, cut_position};

/// The longest JSON text that is parsed, in bytes, because a parsed value takes several times the memory of its text.
const MAX_JSON: usize = 64 << 10;

/// An attribute value of a guest.
#[derive(Debug, PartialEq)]
pub(super) enum GuestValue {
    Text(String),
    Int(i64),
    Double(f64),
    Boolean(bool),
    Texts(Vec<String>),
}

/// The attributes of a guest.
pub(super) struct GuestAttributes(Vec<(String, GuestValue)>);

impl GuestValue {
    /// Parses JSON. Text that is invalid or too long becomes a string, so that no data is lost.
    pub fn parse(text: String) -> GuestValue {
        if text.len() > MAX_JSON {
            return GuestValue::Text(text);
        }
        match serde_json::from_str(&text) {
            Ok(Json::String(text)) => GuestValue::Text(text),
            Ok(Json::Bool(boolean)) => GuestValue::Boolean(boolean),
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

    /// The value as text, where only text is allowed.
    pub fn into_text(self) -> String {
        match self {
            GuestValue::Text(text) => text,
            GuestValue::Int(number) => number.to_string(),
            GuestValue::Double(number) => number.to_string(),
            GuestValue::Boolean(boolean) => boolean.to_string(),
            GuestValue::Texts(texts) => Json::from(texts).to_string(),
        }
    }

    /// The value as the type of the metrics SDK.
    pub fn into_opentelemetry(self) -> opentelemetry::Value {
        match self {
            GuestValue::Text(text) => text.into(),
            GuestValue::Int(number) => number.into(),
            GuestValue::Double(number) => number.into(),
            GuestValue::Boolean(boolean) => boolean.into(),
            GuestValue::Texts(texts) => {
                opentelemetry::Value::Array(opentelemetry::Array::String(texts.into_iter().map(Into::into).collect()))
            }
        }
    }

    /// Truncates texts to `max_length` characters.
    fn truncate(&mut self, max_length: usize) {
        let texts = match self {
            GuestValue::Text(text) => std::slice::from_mut(text),
            GuestValue::Texts(texts) => texts.as_mut_slice(),
            GuestValue::Int(_) | GuestValue::Double(_) | GuestValue::Boolean(_) => return,
        };
        for text in texts {
            if let Some(end) = cut_position(text, max_length) {
                text.truncate(end);
                text.shrink_to_fit();
            }
        }
    }

    /// The bytes of its texts, with the same overhead per list item as in the recorder.
    fn size(&self) -> usize {
        const LIST_ITEM_OVERHEAD: usize = 20;
        match self {
            GuestValue::Text(text) => text.len(),
            GuestValue::Texts(texts) => texts.iter().map(|text| LIST_ITEM_OVERHEAD + text.len()).sum(),
            GuestValue::Int(_) | GuestValue::Double(_) | GuestValue::Boolean(_) => 0,
        }
    }

    fn borrowed(&self) -> Value<'_> {
        match self {
            GuestValue::Text(text) => Value::Text(text),
            GuestValue::Int(number) => Value::Int(*number),
            GuestValue::Double(number) => Value::Double(*number),
            GuestValue::Boolean(boolean) => Value::Boolean(*boolean),
            GuestValue::Texts(texts) => Value::Texts(texts.iter().map(String::as_str).collect()),
        }
    }
}

impl GuestAttributes {
    /// Parses attributes within the recorder's limits: the number of keys, and `bytes` of keys and values, which is
    /// reduced by what was parsed. Attributes beyond the limits become empty, so that they use no memory; the recorder
    /// drops and counts attributes without a key.
    pub fn parse(pairs: Vec<KeyValue>, limits: AttributeLimits, bytes: &mut usize) -> GuestAttributes {
        let mut keys = BTreeSet::new();
        let mut is_within = |key| keys.contains(key) || (keys.len() < limits.count && keys.insert(key));
        let within: Vec<bool> = pairs.iter().map(|pair| is_within(pair.key.as_str())).collect();
        let read = pairs.into_iter().zip(within).map(|(pair, is_within)| {
            let read = is_within.then(|| GuestAttributes::parse_one(pair, limits, bytes));
            read.flatten().unwrap_or_else(|| (String::new(), GuestValue::Boolean(false)))
        });
        GuestAttributes(read.collect())
    }

    /// Parses one attribute if it is within `bytes`.
    fn parse_one(pair: KeyValue, limits: AttributeLimits, bytes: &mut usize) -> Option<(String, GuestValue)> {
        let KeyValue { key, value } = pair;
        let mut value = GuestValue::parse(value);
        if let Some(max_length) = limits.value_length {
            value.truncate(max_length);
        }
        *bytes = bytes.checked_sub(key.len() + value.size())?;
        Some((key, value))
    }

    /// Whether all attributes were parsed.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(|(key, _)| !key.is_empty())
    }

    /// Truncates each text to `max_length` bytes.
    pub fn truncate(&mut self, max_length: usize) {
        for (_, value) in &mut self.0 {
            if let GuestValue::Text(text) = value {
                text.truncate(text.floor_char_boundary(max_length));
            }
        }
    }

    /// Keys and values ordered by key. Equal sets of attributes have equal texts.
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

    /// Borrows the attributes.
    pub fn borrowed(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.0.iter().map(|(key, value)| Attribute { key, value: value.borrowed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AttributeLimits = AttributeLimits { count: 2, value_length: None };

    fn pairs(given: &[(&str, &str)]) -> Vec<KeyValue> {
        given.iter().map(|(key, value)| KeyValue { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
    }

    fn values(attributes: GuestAttributes) -> Vec<GuestValue> {
        attributes.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn attributes_beyond_the_limit_are_not_parsed() {
        let given = pairs(&[("a", "1"), ("a", "2"), ("b", "3"), ("c", "[\"x\"]"), ("b", "4"), ("d", "true")]);
        let mut bytes = 100;
        let read = GuestAttributes::parse(given, LIMITS, &mut bytes);
        assert!(!read.is_complete());
        let keys: Vec<_> = read.0.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!((keys.as_slice(), bytes), (["a", "a", "b", "", "b", ""].as_slice(), 96));
        assert_eq!(read.0[4].1, GuestValue::Int(4));
        let none = AttributeLimits { count: 0, ..LIMITS };
        assert!(!GuestAttributes::parse(pairs(&[("a", "1")]), none, &mut bytes).is_complete());
    }

    #[test]
    fn no_more_is_parsed_than_may_be_recorded() {
        // A parsed list takes many times the memory of its text.
        let list = format!("[{}\"\"]", "\"\",".repeat(20_000));
        let keys: Vec<_> = (0..100).map(|number| format!("k{number}")).collect();
        let mut given: Vec<_> = keys.iter().map(|key| (key.as_str(), list.as_str())).collect();
        given.push(("last", "7"));
        let mut bytes = 1 << 20;
        let many = AttributeLimits { count: 128, ..LIMITS };
        let read = GuestAttributes::parse(pairs(&given), many, &mut bytes);
        let lists = read.0.iter().filter(|(_, value)| matches!(value, GuestValue::Texts(_))).count();
        assert_eq!((read.0.len(), lists), (101, 2));
        assert_eq!(read.0[100], ("last".to_owned(), GuestValue::Int(7)), "what is small still fits");
    }

    #[test]
    fn truncated_texts_count_with_their_remaining_length() {
        let short = AttributeLimits { value_length: Some(3), ..LIMITS };
        let mut bytes = 60;
        let long = format!("\"{}\"", "é".repeat(1000));
        let read = GuestAttributes::parse(pairs(&[("a", &long), ("b", "[\"abcd\",\"e\"]")]), short, &mut bytes);
        let list = GuestValue::Texts(vec!["abc".to_owned(), "e".to_owned()]);
        assert_eq!(values(read), [GuestValue::Text("ééé".to_owned()), list]);
        assert_eq!(bytes, 60 - 7 - 45);
    }

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

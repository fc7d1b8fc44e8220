//! Values of `wasi:otel`, which come as JSON text, as the host records them.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::component::standard_bindings::wasi::otel::types::KeyValue;
use crate::trace::{Attribute, AttributeLimits, Value, cut_position};

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

    /// Cuts texts after so many characters.
    fn truncate(&mut self, longest: usize) {
        let texts = match self {
            GuestValue::Text(text) => std::slice::from_mut(text),
            GuestValue::Texts(texts) => texts.as_mut_slice(),
            GuestValue::Int(_) | GuestValue::Double(_) | GuestValue::Boolean(_) => return,
        };
        for text in texts {
            if let Some(end) = cut_position(text, longest) {
                text.truncate(end);
                text.shrink_to_fit();
            }
        }
    }

    /// The bytes of its texts, and as much for each text of a list as the recorder counts.
    fn size(&self) -> usize {
        const AROUND: usize = 20;
        match self {
            GuestValue::Text(text) => text.len(),
            GuestValue::Texts(texts) => texts.iter().map(|text| AROUND + text.len()).sum(),
            GuestValue::Int(_) | GuestValue::Double(_) | GuestValue::Boolean(_) => 0,
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
    /// Reads attributes as far as they would be recorded: so many keys, and `bytes` of keys and values, which is reduced by
    /// what was read. Those beyond stay without key and value, so that they take no room; the recorder drops and counts
    /// attributes without a key.
    pub fn parse(pairs: Vec<KeyValue>, limits: AttributeLimits, bytes: &mut usize) -> GuestAttributes {
        let mut known = BTreeSet::new();
        let mut is_within = |key| known.contains(key) || (known.len() < limits.count && known.insert(key));
        let within: Vec<bool> = pairs.iter().map(|pair| is_within(pair.key.as_str())).collect();
        let read = pairs.into_iter().zip(within).map(|(pair, is_within)| {
            let read = is_within.then(|| GuestAttributes::parse_one(pair, limits, bytes));
            read.flatten().unwrap_or_else(|| (String::new(), GuestValue::Boolean(false)))
        });
        GuestAttributes(read.collect())
    }

    /// Reads one, if it is within `bytes`.
    fn parse_one(pair: KeyValue, limits: AttributeLimits, bytes: &mut usize) -> Option<(String, GuestValue)> {
        let KeyValue { key, value } = pair;
        let mut value = GuestValue::parse(value);
        if let Some(longest) = limits.value_length {
            value.truncate(longest);
        }
        *bytes = bytes.checked_sub(key.len() + value.size())?;
        Some((key, value))
    }

    /// Whether all of them were read.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(|(key, _)| !key.is_empty())
    }

    /// Adds one that the host knows.
    pub fn add(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), GuestValue::Text(value)));
    }

    /// Keeps so many bytes of each text.
    pub fn cut(&mut self, length: usize) {
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

    const LIMITS: AttributeLimits = AttributeLimits { count: 2, value_length: None };

    fn pairs(given: &[(&str, &str)]) -> Vec<KeyValue> {
        given.iter().map(|(key, value)| KeyValue { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
    }

    fn values(attributes: GuestAttributes) -> Vec<GuestValue> {
        attributes.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn attributes_beyond_the_limit_are_not_read() {
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
    fn no_more_is_read_than_may_be_recorded() {
        // Each takes many times its length once it is read.
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
    fn what_is_cut_off_a_text_takes_no_room() {
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

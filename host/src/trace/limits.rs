//! Applies the span limits to what guests send, and counts what it leaves out.

use opentelemetry::{Array, KeyValue, StringValue, Value};

use super::settings::SpanLimits;

/// Sets an attribute: replaces one of the same key, or adds it where there is room. Tells whether it is there now.
pub(super) fn put(attributes: &mut Vec<KeyValue>, attribute: KeyValue, most: usize, limits: &SpanLimits) -> bool {
    let attribute = shorten(attribute, limits);
    if attribute.key.as_str().is_empty() {
        return false;
    }
    if let Some(known) = attributes.iter_mut().find(|known| known.key == attribute.key) {
        known.value = attribute.value;
        return true;
    }
    let fits = attributes.len() < most;
    if fits {
        attributes.push(attribute);
    }
    fits
}

/// Applies the limits to a whole list. Returns what fits and how many did not.
pub(super) fn fit(given: Vec<KeyValue>, most: usize, limits: &SpanLimits) -> (Vec<KeyValue>, u32) {
    let mut attributes = Vec::with_capacity(given.len().min(most));
    let mut dropped = 0;
    for attribute in given {
        dropped += u32::from(!put(&mut attributes, attribute, most, limits));
    }
    (attributes, dropped)
}

fn shorten(mut attribute: KeyValue, limits: &SpanLimits) -> KeyValue {
    let Some(longest) = limits.value_length else { return attribute };
    match &mut attribute.value {
        Value::String(text) => cut(text, longest),
        Value::Array(Array::String(texts)) => texts.iter_mut().for_each(|text| cut(text, longest)),
        _ => {}
    }
    attribute
}

fn cut(text: &mut StringValue, longest: usize) {
    if let Some((end, _)) = text.as_str().char_indices().nth(longest) {
        let kept = text.as_str().get(..end).unwrap_or_default().to_owned();
        *text = kept.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SpanLimits = SpanLimits { attributes: 2, events: 1, event_attributes: 1, value_length: Some(3) };

    #[test]
    fn attributes_over_the_limit_are_counted() {
        let given = ["a", "b", "a", "c"].map(|key| KeyValue::new(key, "1"));
        let (kept, dropped) = fit(given.to_vec(), 2, &LIMITS);
        assert_eq!((kept.len(), dropped), (2, 1));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let (kept, _) = fit(vec![KeyValue::new("k", "äöüß")], 2, &LIMITS);
        assert_eq!(kept[0].value.as_str(), "äöü");
        let texts = Value::Array(Array::String(vec!["abcd".into(), "x".into()]));
        let (kept, _) = fit(vec![KeyValue::new("k", texts)], 2, &LIMITS);
        assert_eq!(kept[0].value, Value::Array(Array::String(vec!["abc".into(), "x".into()])));
    }
}

//! Limits on the records of one request: the span limits of OpenTelemetry, and a limit on memory, since span limits do
//! not bound bytes. Records beyond a limit are dropped and counted.

use std::borrow::Cow;

use super::otlp::{Attribute, Attributes, Value};
use super::settings::{AttributeLimits, SpanLimits};

/// The most bytes that one request may record, whatever the span limits allow.
const MAX_BYTES: usize = 4 << 20;
/// The bytes charged for an attribute that is rejected: looking up many of them takes time.
const REJECTED_ATTRIBUTE: usize = 20;
/// The bytes that count as one span where memory is bounded by a number of spans.
const BYTES_PER_SPAN: usize = 8 << 10;
/// The most characters of the name of a span or an event.
const MAX_NAME: usize = 1024;
/// The most bytes of `error.type`.
const MAX_ERROR_TYPE: usize = 256;
/// The most characters of a status message.
const MAX_MESSAGE: usize = 4096;

/// Upper bounds on what is recorded of the input of a guest. Input beyond them need not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRecordLimits {
    /// The limits of the attributes of a span.
    pub span: AttributeLimits,
    /// The limits of the attributes of an event or a link.
    pub event: AttributeLimits,
    /// The limits of the attributes of a log record.
    pub log: AttributeLimits,
    /// The most events of a span.
    pub events: usize,
    /// The most links of a span.
    pub links: usize,
    /// The most bytes of the keys and values of all attributes.
    pub bytes: usize,
}

/// The limits of one request and the bytes that remain.
#[derive(Debug)]
pub(super) struct RecordLimits {
    spans: SpanLimits,
    logs: AttributeLimits,
    remaining: usize,
}

impl RecordLimits {
    pub fn new(spans: SpanLimits, logs: AttributeLimits) -> RecordLimits {
        RecordLimits { spans, logs, remaining: MAX_BYTES }
    }

    /// Limits that allow no records.
    pub fn none() -> RecordLimits {
        let spans = SpanLimits { attributes: 0, events: 0, event_attributes: 0, value_length: None };
        RecordLimits { remaining: 0, ..RecordLimits::new(spans, AttributeLimits { count: 0, value_length: None }) }
    }

    /// The upper bounds on what a guest may still record.
    pub fn for_guest(&self, links: usize) -> GuestRecordLimits {
        let (span, event, log) = (self.span_attributes(), self.event_attributes(), self.log_attributes());
        GuestRecordLimits { span, event, log, events: self.events(), links, bytes: self.remaining }
    }

    /// The most events of one span.
    pub fn events(&self) -> usize {
        self.spans.events
    }

    /// The limits of the attributes that a guest sets on a span.
    pub fn span_attributes(&self) -> AttributeLimits {
        AttributeLimits { count: self.spans.attributes, value_length: self.spans.value_length }
    }

    /// The limits of the attributes of an event.
    pub fn event_attributes(&self) -> AttributeLimits {
        AttributeLimits { count: self.spans.event_attributes, ..self.span_attributes() }
    }

    /// The limits of the attributes of a log record.
    pub fn log_attributes(&self) -> AttributeLimits {
        self.logs
    }

    /// The number of spans that the records count as where memory is bounded by a number of spans.
    pub fn weight(&self, records: usize) -> usize {
        records.max((MAX_BYTES - self.remaining).div_ceil(BYTES_PER_SPAN))
    }

    /// Whether this many bytes remain. If so, they are charged.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.remaining;
        if fits {
            self.remaining -= bytes;
        }
        fits
    }

    /// Charges this many bytes, or the rest, for a record that is kept in any case.
    pub fn charge(&mut self, bytes: usize) {
        self.remaining = self.remaining.saturating_sub(bytes);
    }

    /// A name, truncated.
    pub fn name(&mut self, name: Cow<'static, str>) -> Cow<'static, str> {
        match cut_position(&name, MAX_NAME) {
            Some(end) => Cow::Owned(name.get(..end).unwrap_or_default().to_owned()),
            None => name,
        }
    }

    /// A value of `error.type`, truncated.
    pub fn error_type<'a>(&self, kind: &'a str) -> &'a str {
        &kind[..kind.floor_char_boundary(MAX_ERROR_TYPE)]
    }

    /// A status message, truncated. Empty if it exceeds the remaining bytes.
    pub fn message(&mut self, mut message: String) -> String {
        if let Some(end) = cut_position(&message, MAX_MESSAGE) {
            message.truncate(end);
            message.shrink_to_fit();
        }
        if self.reserve(message.len()) { message } else { String::new() }
    }

    /// Sets an attribute: replaces one with the same key, or adds it within the limits. Returns whether it is set.
    pub fn set(&mut self, attributes: &mut Attributes, mut attribute: Attribute<'_>, limits: AttributeLimits) -> bool {
        if let Some(max_length) = limits.value_length {
            truncate_texts(&mut attribute.value, max_length);
        }
        let size = attribute.size();
        if attribute.key.is_empty() || size > self.remaining {
            return false;
        }
        if attributes.len() >= limits.count && !attributes.contains(attribute.key) {
            self.charge(REJECTED_ATTRIBUTE);
            return false;
        }
        // Moved bytes cost as much as kept ones: a small attribute may precede a large one.
        let moved = attributes.set(&attribute);
        self.charge(size + moved);
        true
    }

    /// Sets an attribute of the host. There are few of them, and the records of a guest never displace them.
    pub fn set_unlimited(&mut self, attributes: &mut Attributes, mut attribute: Attribute<'_>) {
        if let Some(max_length) = self.spans.value_length {
            truncate_texts(&mut attribute.value, max_length);
        }
        self.charge(attribute.size());
        attributes.set(&attribute);
    }

    /// Applies the limits to a list. Returns the attributes that fit, and the number of dropped ones.
    pub fn collect<'a>(
        &mut self,
        given: impl IntoIterator<Item = Attribute<'a>>,
        limits: AttributeLimits,
    ) -> (Attributes, u32) {
        let (mut attributes, mut dropped) = (Attributes::default(), 0);
        for attribute in given {
            dropped = u32::saturating_add(dropped, u32::from(!self.set(&mut attributes, attribute, limits)));
        }
        (attributes, dropped)
    }
}

fn truncate_texts(value: &mut Value<'_>, max_length: usize) {
    match value {
        Value::Text(text) => truncate(text, max_length),
        Value::Texts(texts) => texts.iter_mut().for_each(|text| truncate(text, max_length)),
        _ => {}
    }
}

fn truncate(text: &mut &str, max_length: usize) {
    if let Some(end) = cut_position(text, max_length) {
        *text = text.get(..end).unwrap_or_default();
    }
}

/// The byte position at which a text of more than `max_length` characters is truncated.
pub(crate) fn cut_position(text: &str, max_length: usize) -> Option<usize> {
    // A text has at most as many characters as bytes, so most texts need no counting.
    if text.len() <= max_length {
        return None;
    }
    text.char_indices().nth(max_length).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_limits() -> RecordLimits {
        let spans = SpanLimits { attributes: 2, events: 1, event_attributes: 1, value_length: None };
        RecordLimits::new(spans, AttributeLimits { count: 3, value_length: None })
    }

    fn attribute_limits(count: usize, value_length: Option<usize>) -> AttributeLimits {
        AttributeLimits { count, value_length }
    }

    #[test]
    fn attributes_over_the_limit_are_counted() {
        let given = ["a", "b", "a", "c"].map(|key| Attribute::new(key, "1"));
        let (kept, dropped) = record_limits().collect(given, attribute_limits(2, None));
        assert_eq!((kept.len(), dropped), (2, 1));
    }

    #[test]
    fn long_texts_are_truncated_between_characters() {
        let mut limits = record_limits();
        let (kept, _) = limits.collect([Attribute::new("k", "äöüß")], attribute_limits(2, Some(3)));
        assert_eq!(kept.get("k"), Some(Value::Text("äöü")));
        let texts = Value::Texts(vec!["abcd", "x"]);
        let (kept, _) = limits.collect([Attribute { key: "k", value: texts }], attribute_limits(2, Some(3)));
        assert_eq!(kept.get("k"), Some(Value::Texts(vec!["abc", "x"])));
    }

    #[test]
    fn the_bytes_of_a_request_are_limited() {
        let mut limits = record_limits();
        let large = "x".repeat(MAX_BYTES / 4);
        let dropped: u32 =
            (0..10).map(|_| limits.collect([Attribute::new("k", &large)], attribute_limits(2, None)).1).sum();
        assert_eq!(dropped, 7, "three quarters fit, with their overhead");
        assert!(limits.weight(1) > MAX_BYTES / 2 / BYTES_PER_SPAN, "they count as many spans");
    }

    #[test]
    fn moved_bytes_are_charged() {
        let (mut limits, mut attributes) = (record_limits(), Attributes::default());
        let large = "x".repeat(MAX_BYTES / 4);
        let mut set =
            |key: &str, value: &str| limits.set(&mut attributes, Attribute::new(key, value), attribute_limits(2, None));
        assert!(set("small", "1") && set("large", &large));
        let moved = (0..1000).take_while(|_| set("small", "2")).count();
        assert!((1..5).contains(&moved), "{moved} times past the large one");
    }

    #[test]
    fn rejected_attributes_are_charged() {
        let (mut limits, mut attributes) = (record_limits(), Attributes::default());
        limits.set(&mut attributes, Attribute::new("a", "1"), attribute_limits(1, None));
        let before = limits.remaining;
        assert!(!limits.set(&mut attributes, Attribute::new("b", "1"), attribute_limits(1, None)));
        assert!(limits.remaining < before);
    }

    #[test]
    fn a_small_request_counts_as_its_number_of_spans() {
        let mut limits = record_limits();
        limits.collect([Attribute::new("k", "v")], attribute_limits(2, None));
        assert_eq!(limits.weight(3), 3);
    }

    proptest::proptest! {
        #[test]
        fn attributes_stay_within_the_limits_and_dropped_ones_are_counted(
            given in proptest::collection::vec(("[a-e]{0,2}", "\\PC{0,12}"), 0..20), most in 0_usize..6, max_length in 0_usize..6,
        ) {
            let mut limits = record_limits();
            let keys = given.iter().map(|(key, _)| key).filter(|key| !key.is_empty());
            let distinct = keys.collect::<std::collections::BTreeSet<_>>().len();
            let list = given.iter().map(|(key, value)| Attribute::new(key, value));
            let (kept, dropped) = limits.collect(list, attribute_limits(most, Some(max_length)));
            proptest::prop_assert!(kept.len() <= most && kept.len() <= distinct);
            let fits = |value: Value<'_>| matches!(value, Value::Text(text) if text.chars().count() <= max_length);
            proptest::prop_assert!(kept.iter().all(|attribute| fits(attribute.value)));
            proptest::prop_assert_eq!(dropped == 0, distinct <= most && given.iter().all(|(key, _)| !key.is_empty()));
        }
    }
}

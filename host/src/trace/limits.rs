//! What one request may record: the span limits of OpenTelemetry, and a bound on memory, because those limits know no
//! size. What does not fit is left out and counted.

use std::borrow::Cow;

use super::otlp::{Attribute, Attributes, Value};
use super::settings::{AttributeLimits, SpanLimits};

/// The most bytes that one request may record, whatever the span limits allow.
const MAX_BYTES: usize = 4 << 20;
/// What an attribute costs for which there is no place: many of them take a while to be looked at.
const REJECTED_ATTRIBUTE: usize = 20;
/// A span in a bound that is counted in spans. One that is larger counts as several.
const BYTES_PER_SPAN: usize = 8 << 10;
/// The most characters of a span's or an event's name.
const MAX_NAME: usize = 1024;
/// The most bytes of what becomes `error.type`.
const MAX_ERROR_TYPE: usize = 256;
/// The most characters of a status message.
const MAX_MESSAGE: usize = 4096;

/// How much of what a guest gives would be recorded at most. The rest need not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRecordLimits {
    /// Attributes of a span.
    pub span: AttributeLimits,
    /// Attributes of an event or a link.
    pub event: AttributeLimits,
    /// Attributes of a log record.
    pub log: AttributeLimits,
    /// Events of a span.
    pub events: usize,
    /// Links of a span.
    pub links: usize,
    /// Bytes of keys and values, all attributes together.
    pub bytes: usize,
}

/// The room that is left for one request's records.
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

    /// No room for anything.
    pub fn none() -> RecordLimits {
        let spans = SpanLimits { attributes: 0, events: 0, event_attributes: 0, value_length: None };
        RecordLimits { remaining: 0, ..RecordLimits::new(spans, AttributeLimits { count: 0, value_length: None }) }
    }

    /// What a guest may still record.
    pub fn for_guest(&self, links: usize) -> GuestRecordLimits {
        let (span, event, log) = (self.span_attributes(), self.event_attributes(), self.log_attributes());
        GuestRecordLimits { span, event, log, events: self.events(), links, bytes: self.remaining }
    }

    /// The most events of a span.
    pub fn events(&self) -> usize {
        self.spans.events
    }

    /// What holds for the attributes that a guest puts on a span.
    pub fn span_attributes(&self) -> AttributeLimits {
        AttributeLimits { count: self.spans.attributes, value_length: self.spans.value_length }
    }

    /// What holds for the attributes of an event.
    pub fn event_attributes(&self) -> AttributeLimits {
        AttributeLimits { count: self.spans.event_attributes, ..self.span_attributes() }
    }

    /// What holds for the attributes of a log record.
    pub fn log_attributes(&self) -> AttributeLimits {
        self.logs
    }

    /// How many spans the records count as, where spans are counted to bound memory.
    pub fn weight(&self, records: usize) -> usize {
        records.max((MAX_BYTES - self.remaining).div_ceil(BYTES_PER_SPAN))
    }

    /// Whether so many bytes fit. If so, they are taken.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.remaining;
        if fits {
            self.remaining -= bytes;
        }
        fits
    }

    /// Takes so many bytes, or what is left of them, for something that stands in any case.
    pub fn charge(&mut self, bytes: usize) {
        self.remaining = self.remaining.saturating_sub(bytes);
    }

    /// A name as it is kept.
    pub fn name(&mut self, name: Cow<'static, str>) -> Cow<'static, str> {
        match cut_position(&name, MAX_NAME) {
            Some(end) => Cow::Owned(name.get(..end).unwrap_or_default().to_owned()),
            None => name,
        }
    }

    /// A kind of error as it is kept.
    pub fn error_type<'a>(&self, kind: &'a str) -> &'a str {
        &kind[..kind.floor_char_boundary(MAX_ERROR_TYPE)]
    }

    /// A status message as it is kept.
    pub fn message(&mut self, mut message: String) -> String {
        if let Some(end) = cut_position(&message, MAX_MESSAGE) {
            message.truncate(end);
            message.shrink_to_fit();
        }
        if self.reserve(message.len()) { message } else { String::new() }
    }

    /// Sets an attribute: replaces one of the same key, or adds it where there is room. Tells whether it is there now.
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
        // Bytes that are moved cost as much as bytes that are kept: a small attribute may stand before a large one.
        let moved = attributes.set(&attribute);
        self.charge(size + moved);
        true
    }

    /// Sets an attribute of the host's own. There are few, and nothing that a guest records pushes them out.
    pub fn set_unlimited(&mut self, attributes: &mut Attributes, mut attribute: Attribute<'_>) {
        if let Some(max_length) = self.spans.value_length {
            truncate_texts(&mut attribute.value, max_length);
        }
        self.charge(attribute.size());
        attributes.set(&attribute);
    }

    /// Applies the limits to a whole list. Returns what fits and how many did not.
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

/// The byte at which a text of more than so many characters is cut.
pub(crate) fn cut_position(text: &str, max_length: usize) -> Option<usize> {
    // A text has no more characters than bytes, so most need no counting.
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
    fn long_texts_are_cut_between_characters() {
        let mut limits = record_limits();
        let (kept, _) = limits.collect([Attribute::new("k", "äöüß")], attribute_limits(2, Some(3)));
        assert_eq!(kept.get("k"), Some(Value::Text("äöü")));
        let texts = Value::Texts(vec!["abcd", "x"]);
        let (kept, _) = limits.collect([Attribute { key: "k", value: texts }], attribute_limits(2, Some(3)));
        assert_eq!(kept.get("k"), Some(Value::Texts(vec!["abc", "x"])));
    }

    #[test]
    fn a_request_may_not_record_without_end() {
        let mut limits = record_limits();
        let large = "x".repeat(MAX_BYTES / 4);
        let dropped: u32 =
            (0..10).map(|_| limits.collect([Attribute::new("k", &large)], attribute_limits(2, None)).1).sum();
        assert_eq!(dropped, 7, "three quarters and what surrounds them fit");
        assert!(limits.weight(1) > MAX_BYTES / 2 / BYTES_PER_SPAN, "and they count as many spans");
    }

    #[test]
    fn bytes_that_are_moved_are_taken_as_well() {
        let (mut limits, mut attributes) = (record_limits(), Attributes::default());
        let large = "x".repeat(MAX_BYTES / 4);
        let mut set =
            |key: &str, value: &str| limits.set(&mut attributes, Attribute::new(key, value), attribute_limits(2, None));
        assert!(set("small", "1") && set("large", &large));
        let moved = (0..1000).take_while(|_| set("small", "2")).count();
        assert!((1..5).contains(&moved), "{moved} times past the large one");
    }

    #[test]
    fn attributes_that_are_refused_take_a_little() {
        let (mut limits, mut attributes) = (record_limits(), Attributes::default());
        limits.set(&mut attributes, Attribute::new("a", "1"), attribute_limits(1, None));
        let before = limits.remaining;
        assert!(!limits.set(&mut attributes, Attribute::new("b", "1"), attribute_limits(1, None)));
        assert!(limits.remaining < before);
    }

    #[test]
    fn a_small_request_weighs_its_spans() {
        let mut limits = record_limits();
        limits.collect([Attribute::new("k", "v")], attribute_limits(2, None));
        assert_eq!(limits.weight(3), 3);
    }

    proptest::proptest! {
        #[test]
        fn the_limits_hold_and_nothing_goes_uncounted(
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

//! What one request may record: the span limits of OpenTelemetry, and a bound on memory, because those limits know no
//! size. What does not fit is left out and counted.

use std::borrow::Cow;

use super::otlp::{Attribute, Attributes, Value};
use super::settings::{AttributeLimits, SpanLimits};

/// The most bytes that one request may record, whatever the span limits allow.
const BYTES: usize = 4 << 20;
/// What an attribute costs for which there is no place: many of them take a while to be looked at.
const REFUSED: usize = 20;
/// A span in a bound that is counted in spans. One that is larger counts as several.
const SPAN_BYTES: usize = 8 << 10;
/// The most characters of a span's or an event's name.
const NAME: usize = 1024;
/// The most bytes of what becomes `error.type`.
const KIND: usize = 256;
/// The most characters of a status message.
const MESSAGE: usize = 4096;

/// The room that is left for one request's records.
#[derive(Debug)]
pub(super) struct RecordLimits {
    spans: SpanLimits,
    logs: AttributeLimits,
    left: usize,
}

impl RecordLimits {
    pub fn new(spans: SpanLimits, logs: AttributeLimits) -> RecordLimits {
        RecordLimits { spans, logs, left: BYTES }
    }

    /// No room for anything.
    pub fn none() -> RecordLimits {
        let spans = SpanLimits { attributes: 0, events: 0, event_attributes: 0, value_length: None };
        RecordLimits { left: 0, ..RecordLimits::new(spans, AttributeLimits { count: 0, value_length: None }) }
    }

    /// The most events of a span.
    pub fn events(&self) -> usize {
        self.spans.events
    }

    /// What holds for the attributes that a guest puts on a span.
    pub fn of_span(&self) -> AttributeLimits {
        AttributeLimits { count: self.spans.attributes, value_length: self.spans.value_length }
    }

    /// What holds for the attributes of an event.
    pub fn of_event(&self) -> AttributeLimits {
        AttributeLimits { count: self.spans.event_attributes, ..self.of_span() }
    }

    /// What holds for the attributes of a log record.
    pub fn of_log(&self) -> AttributeLimits {
        self.logs
    }

    /// How many spans the records count as, where spans are counted to bound memory.
    pub fn weight(&self, records: usize) -> usize {
        records.max((BYTES - self.left).div_ceil(SPAN_BYTES))
    }

    /// Whether so many bytes fit. If so, they are taken.
    pub fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        }
        fits
    }

    /// Takes so many bytes, or what is left of them, for something that stands in any case.
    pub fn use_up(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// A name as it is kept.
    pub fn name(&mut self, name: Cow<'static, str>) -> Cow<'static, str> {
        match cut_at(&name, NAME) {
            Some(end) => Cow::Owned(name.get(..end).unwrap_or_default().to_owned()),
            None => name,
        }
    }

    /// A kind of error as it is kept.
    pub fn kind<'a>(&self, kind: &'a str) -> &'a str {
        &kind[..kind.floor_char_boundary(KIND)]
    }

    /// A status message as it is kept.
    pub fn message(&mut self, mut message: String) -> String {
        if let Some(end) = cut_at(&message, MESSAGE) {
            message.truncate(end);
            message.shrink_to_fit();
        }
        if self.take(message.len()) { message } else { String::new() }
    }

    /// Sets an attribute: replaces one of the same key, or adds it where there is room. Tells whether it is there now.
    pub fn put(&mut self, attributes: &mut Attributes, mut attribute: Attribute<'_>, limits: AttributeLimits) -> bool {
        if let Some(longest) = limits.value_length {
            shorten(&mut attribute.value, longest);
        }
        let size = attribute.size();
        if attribute.key.is_empty() || size > self.left {
            return false;
        }
        if attributes.len() >= limits.count && !attributes.contains(attribute.key) {
            self.use_up(REFUSED);
            return false;
        }
        // Bytes that are moved cost as much as bytes that are kept: a small attribute may stand before a large one.
        let moved = attributes.set(&attribute);
        self.use_up(size + moved);
        true
    }

    /// Sets an attribute of the host's own. There are few, and nothing that a guest records pushes them out.
    pub fn put_own(&mut self, attributes: &mut Attributes, mut attribute: Attribute<'_>) {
        if let Some(longest) = self.spans.value_length {
            shorten(&mut attribute.value, longest);
        }
        self.use_up(attribute.size());
        attributes.set(&attribute);
    }

    /// Applies the limits to a whole list. Returns what fits and how many did not.
    pub fn fit<'a>(
        &mut self,
        given: impl IntoIterator<Item = Attribute<'a>>,
        limits: AttributeLimits,
    ) -> (Attributes, u32) {
        let (mut attributes, mut dropped) = (Attributes::default(), 0);
        for attribute in given {
            dropped = u32::saturating_add(dropped, u32::from(!self.put(&mut attributes, attribute, limits)));
        }
        (attributes, dropped)
    }
}

fn shorten(value: &mut Value<'_>, longest: usize) {
    match value {
        Value::Text(text) => cut(text, longest),
        Value::Texts(texts) => texts.iter_mut().for_each(|text| cut(text, longest)),
        _ => {}
    }
}

fn cut(text: &mut &str, longest: usize) {
    if let Some(end) = cut_at(text, longest) {
        *text = text.get(..end).unwrap_or_default();
    }
}

/// The byte at which a text of more than so many characters is cut.
fn cut_at(text: &str, longest: usize) -> Option<usize> {
    // A text has no more characters than bytes, so most need no counting.
    if text.len() <= longest {
        return None;
    }
    text.char_indices().nth(longest).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RecordLimits {
        let spans = SpanLimits { attributes: 2, events: 1, event_attributes: 1, value_length: None };
        RecordLimits::new(spans, AttributeLimits { count: 3, value_length: None })
    }

    fn limits(count: usize, value_length: Option<usize>) -> AttributeLimits {
        AttributeLimits { count, value_length }
    }

    #[test]
    fn attributes_over_the_limit_are_counted() {
        let given = ["a", "b", "a", "c"].map(|key| Attribute::new(key, "1"));
        let (kept, dropped) = room().fit(given, limits(2, None));
        assert_eq!((kept.len(), dropped), (2, 1));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut room = room();
        let (kept, _) = room.fit([Attribute::new("k", "äöüß")], limits(2, Some(3)));
        assert_eq!(kept.get("k"), Some(Value::Text("äöü")));
        let texts = Value::Texts(vec!["abcd", "x"]);
        let (kept, _) = room.fit([Attribute { key: "k", value: texts }], limits(2, Some(3)));
        assert_eq!(kept.get("k"), Some(Value::Texts(vec!["abc", "x"])));
    }

    #[test]
    fn a_request_may_not_record_without_end() {
        let mut room = room();
        let large = "x".repeat(BYTES / 4);
        let dropped: u32 = (0..10).map(|_| room.fit([Attribute::new("k", &large)], limits(2, None)).1).sum();
        assert_eq!(dropped, 7, "three quarters and what surrounds them fit");
        assert!(room.weight(1) > BYTES / 2 / SPAN_BYTES, "and they count as many spans");
    }

    #[test]
    fn bytes_that_are_moved_are_taken_as_well() {
        let (mut room, mut attributes) = (room(), Attributes::default());
        let large = "x".repeat(BYTES / 4);
        let mut put = |key: &str, value: &str| room.put(&mut attributes, Attribute::new(key, value), limits(2, None));
        assert!(put("small", "1") && put("large", &large));
        let moved = (0..1000).take_while(|_| put("small", "2")).count();
        assert!((1..5).contains(&moved), "{moved} times past the large one");
    }

    #[test]
    fn attributes_that_are_refused_take_a_little() {
        let (mut room, mut attributes) = (room(), Attributes::default());
        room.put(&mut attributes, Attribute::new("a", "1"), limits(1, None));
        let before = room.left;
        assert!(!room.put(&mut attributes, Attribute::new("b", "1"), limits(1, None)));
        assert!(room.left < before);
    }

    #[test]
    fn a_small_request_weighs_its_spans() {
        let mut room = room();
        room.fit([Attribute::new("k", "v")], limits(2, None));
        assert_eq!(room.weight(3), 3);
    }

    proptest::proptest! {
        #[test]
        fn the_limits_hold_and_nothing_goes_uncounted(
            given in proptest::collection::vec(("[a-e]{0,2}", "\\PC{0,12}"), 0..20), most in 0_usize..6, longest in 0_usize..6,
        ) {
            let mut room = room();
            let keys = given.iter().map(|(key, _)| key).filter(|key| !key.is_empty());
            let distinct = keys.collect::<std::collections::BTreeSet<_>>().len();
            let list = given.iter().map(|(key, value)| Attribute::new(key, value));
            let (kept, dropped) = room.fit(list, limits(most, Some(longest)));
            proptest::prop_assert!(kept.len() <= most && kept.len() <= distinct);
            let fits = |value: Value<'_>| matches!(value, Value::Text(text) if text.chars().count() <= longest);
            proptest::prop_assert!(kept.iter().all(|attribute| fits(attribute.value)));
            proptest::prop_assert_eq!(dropped == 0, distinct <= most && given.iter().all(|(key, _)| !key.is_empty()));
        }
    }
}

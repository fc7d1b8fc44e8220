//! Attributes of spans, events and log records, kept in the form in which they leave the host.
//!
//! A request sets a hundred of them. Each is written once, when it is set, as a `KeyValue` message of OTLP. Exporting
//! then copies bytes, and no attribute is an object of its own that has to be made, kept and freed.

use std::ops::Range;

use super::protobuf::{Reader, Writer};

/// Room that is taken with the first attribute: enough for most spans.
const USUAL_BYTES: usize = 256;
/// The bytes of a call's attributes that are looked at. A request may record no more, whatever it sends.
const MOST_ENCODED: usize = 4 << 20;
/// `attributes` of the message `Span`. Most attributes end there, and these are copied as they are.
pub(super) const OF_SPAN: u64 = 9;

/// One attribute. It owns nothing: whoever keeps it writes it down.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute<'a> {
    /// Its name.
    pub key: &'a str,
    /// Its value.
    pub value: Value<'a>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A string.
    Text(&'a str),
    /// A signed integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// A list of strings.
    Texts(Vec<&'a str>),
}

/// Attributes with different keys, in the order in which they were first set.
#[derive(Clone, Default, PartialEq)]
pub struct Attributes {
    /// Each as the field [`OF_SPAN`].
    written: Vec<u8>,
    count: usize,
    /// The [`mark`]s of all keys, a Bloom filter: one whose mark is not among them need not be looked for.
    marks: u64,
}

impl<'a> Attribute<'a> {
    /// An attribute.
    pub fn new(key: &'a str, value: impl Into<Value<'a>>) -> Attribute<'a> {
        Attribute { key, value: value.into() }
    }

    /// About how many bytes it takes to keep it.
    pub(in crate::trace) fn size(&self) -> usize {
        /// Tags, lengths and numbers.
        const AROUND: usize = 20;
        let value = match &self.value {
            Value::Text(text) => text.len(),
            Value::Texts(texts) => texts.iter().map(|text| AROUND + text.len()).sum(),
            _ => 0,
        };
        AROUND + self.key.len() + value
    }

    fn write(&self, writer: &mut Writer) {
        writer.message(OF_SPAN, |pair| {
            pair.text(1, self.key);
            pair.message(2, |any| match &self.value {
                Value::Text(text) => any.present_text(1, text),
                Value::Boolean(truth) => any.present_uint(2, u64::from(*truth)),
                Value::Int(number) => any.present_uint(3, *number as u64),
                Value::Double(number) => any.present_double(4, *number),
                Value::Texts(texts) => any.message(5, |list| {
                    texts.iter().for_each(|text| list.message(1, |any| any.present_text(1, text)));
                }),
            });
        });
    }
}

impl Attributes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.messages().filter_map(read)
    }

    /// The value of one.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let pairs = self.messages().filter_map(pair);
        pairs.filter(|(known, _)| *known == key.as_bytes()).find_map(|(_, any)| value(any))
    }

    /// Whether there is one of this key.
    pub fn contains(&self, key: &str) -> bool {
        self.position(key.as_bytes()).is_some()
    }

    /// Sets one, in the place of one of the same key. Returns how many bytes had to be moved for it.
    pub(in crate::trace) fn set(&mut self, attribute: &Attribute<'_>) -> usize {
        let known = self.position(attribute.key.as_bytes());
        let tail = known.map(|known| {
            let tail = self.written.split_off(known.end);
            self.written.truncate(known.start);
            tail
        });
        let mut writer = Writer::continuing(std::mem::take(&mut self.written), USUAL_BYTES);
        attribute.write(&mut writer);
        match &tail {
            Some(tail) => writer.raw(tail),
            None => {
                self.count += 1;
                self.marks |= mark(attribute.key.as_bytes());
            }
        }
        self.written = writer.into_bytes();
        tail.map_or(0, |tail| tail.len())
    }

    /// Sets all of `others`, each in the place of one of the same key.
    pub(in crate::trace) fn append(&mut self, others: &Attributes) {
        if self.marks & others.marks != 0 {
            return others.iter().for_each(|attribute| _ = self.set(&attribute));
        }
        if self.written.capacity() == 0 {
            self.written.reserve(others.written.len() + 2 * USUAL_BYTES);
        }
        self.written.extend_from_slice(&others.written);
        self.count += others.count;
        self.marks |= others.marks;
    }

    /// Their size in bytes.
    pub(in crate::trace) fn size(&self) -> usize {
        self.written.len()
    }

    /// Writes them as the repeated field `field`, and after them those of `shared` that are not among them.
    pub(super) fn write(&self, writer: &mut Writer, field: u64, shared: &Attributes) {
        let is_distinct = self.marks & shared.marks == 0;
        if field == OF_SPAN && is_distinct {
            writer.raw(&self.written);
            writer.raw(&shared.written);
            return;
        }
        self.messages().for_each(|message| writer.present_text(field, message));
        let more = shared.messages().filter(|message| self.position(key(message)).is_none());
        more.for_each(|message| writer.present_text(field, message));
    }

    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = Reader::new(&self.written);
        std::iter::from_fn(move || left.delimited()).map(|(_, message)| message)
    }

    /// Where the attribute of this key stands, as a whole field.
    fn position(&self, wanted: &[u8]) -> Option<Range<usize>> {
        if self.marks & mark(wanted) == 0 {
            return None;
        }
        let mut left = Reader::new(&self.written);
        let mut start = 0;
        while let Some((_, message)) = left.delimited() {
            let end = self.written.len() - left.len();
            if key(message) == wanted {
                return Some(start..end);
            }
            start = end;
        }
        None
    }
}

/// Reads attributes that a guest has encoded as a message `Span` in which only `attributes` stand. What is not like
/// that is given as an attribute without a key, which nothing can be set to. So is everything after 4 MiB.
pub fn decode_attributes(encoded: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut left = Reader::new(encoded);
    std::iter::from_fn(move || {
        if left.len() == 0 {
            return None;
        }
        let field = left.delimited();
        let attribute = match field {
            Some((OF_SPAN, message)) if encoded.len() - left.len() <= MOST_ENCODED => read(message),
            Some(_) if encoded.len() - left.len() <= MOST_ENCODED => None,
            // Too much, or broken so that nobody can tell where the next one begins.
            _ => {
                left = Reader::new(&[]);
                None
            }
        };
        Some(attribute.unwrap_or_else(|| Attribute::new("", false)))
    })
}

/// One bit that depends on the key alone. The keys of one span rarely share it.
fn mark(key: &[u8]) -> u64 {
    let middle = key.get(key.len() / 2).copied().unwrap_or_default();
    let last = key.last().copied().unwrap_or_default();
    1 << ((key.len() * 5 + usize::from(last) * 3 + usize::from(middle) * 11) % 64)
}

/// The key in a `KeyValue` message.
fn key(message: &[u8]) -> &[u8] {
    Reader::new(message).delimited().map_or(&[], |(_, key)| key)
}

/// The key in a `KeyValue` message, and its `AnyValue` message.
fn pair(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Reader::new(message);
    match (fields.delimited()?, fields.delimited()?, fields.len()) {
        ((1, key), (2, any), 0) => Some((key, any)),
        _ => None,
    }
}

/// The attribute in a `KeyValue` message.
fn read(message: &[u8]) -> Option<Attribute<'_>> {
    let (key, any) = pair(message)?;
    Some(Attribute { key: text(key)?, value: value(any)? })
}

/// The value in an `AnyValue` message.
fn value(any: &[u8]) -> Option<Value<'_>> {
    let mut field = Reader::new(any);
    let value = match field.peek()? {
        1 => Value::Text(text(field.delimited()?.1)?),
        2 => Value::Boolean(field.uint()? != 0),
        3 => Value::Int(field.uint()? as i64),
        4 => Value::Double(field.double()?),
        5 => Value::Texts(list(field.delimited()?.1)?),
        _ => return None,
    };
    (field.len() == 0).then_some(value)
}

/// The texts in an `ArrayValue` message.
fn list(array: &[u8]) -> Option<Vec<&str>> {
    let (mut left, mut texts) = (Reader::new(array), Vec::new());
    while left.len() > 0 {
        let (field, any) = left.delimited()?;
        let mut any = Reader::new(any);
        match (field, any.delimited()?, any.len()) {
            (1, (1, bytes), 0) => texts.push(text(bytes)?),
            _ => return None,
        }
    }
    Some(texts)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter().map(|Attribute { key, value }| (key, value))).finish()
    }
}

impl<'a> FromIterator<Attribute<'a>> for Attributes {
    fn from_iter<I: IntoIterator<Item = Attribute<'a>>>(given: I) -> Attributes {
        let mut attributes = Attributes::default();
        given.into_iter().for_each(|attribute| _ = attributes.set(&attribute));
        attributes
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Value<'a> {
        Value::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Value<'a> {
        Value::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Value::Double(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Value::Boolean(truth)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[derive(Clone, Debug)]
    enum Owned {
        Text(String),
        Int(i64),
        Double(f64),
        Boolean(bool),
        Texts(Vec<String>),
    }

    impl Owned {
        fn lent(&self) -> Value<'_> {
            match self {
                Owned::Text(text) => Value::Text(text),
                Owned::Int(number) => Value::Int(*number),
                Owned::Double(number) => Value::Double(*number),
                Owned::Boolean(truth) => Value::Boolean(*truth),
                Owned::Texts(texts) => Value::Texts(texts.iter().map(String::as_str).collect()),
            }
        }

        /// As the generated messages hold it.
        fn proto(&self) -> AnyValue {
            use any_value::Value as Any;
            let text = |text: &String| AnyValue { value: Some(Any::StringValue(text.clone())) };
            let value = match self {
                Owned::Text(content) => return text(content),
                Owned::Int(number) => Any::IntValue(*number),
                Owned::Double(number) => Any::DoubleValue(*number),
                Owned::Boolean(truth) => Any::BoolValue(*truth),
                Owned::Texts(texts) => Any::ArrayValue(ArrayValue { values: texts.iter().map(text).collect() }),
            };
            AnyValue { value: Some(value) }
        }
    }

    fn owned() -> impl Strategy<Value = Owned> {
        prop_oneof![
            "\\PC{0,200}".prop_map(Owned::Text),
            any::<i64>().prop_map(Owned::Int),
            (-1e300..1e300).prop_map(Owned::Double),
            any::<bool>().prop_map(Owned::Boolean),
            proptest::collection::vec("\\PC{0,9}", 0..4).prop_map(Owned::Texts),
        ]
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_and_written_as_the_generated_messages_write_it(
            given in proptest::collection::vec(("[a-d]{1,2}", owned()), 0..12),
        ) {
            let lent = || given.iter().map(|(key, value)| Attribute { key, value: value.lent() });
            let attributes: Attributes = lent().collect();
            let mut expected: Vec<(&str, &Owned)> = Vec::new();
            for (key, value) in &given {
                match expected.iter_mut().find(|(known, _)| known == key) {
                    Some(known) => known.1 = value,
                    None => expected.push((key, value)),
                }
            }
            prop_assert_eq!(attributes.len(), expected.len());
            let read: Vec<_> = attributes.iter().collect();
            let set: Vec<_> = expected.iter().map(|(key, value)| Attribute { key, value: value.lent() }).collect();
            prop_assert_eq!(read, set);
            let proto: Vec<_> = expected
                .iter()
                .map(|(key, value)| KeyValue { key: (*key).to_owned(), value: Some(value.proto()), ..KeyValue::default() }.encode_to_vec())
                .collect();
            prop_assert_eq!(attributes.messages().collect::<Vec<_>>(), &*proto);
            // A guest's encoding is another's.
            let encoded = proto.iter().fold(Writer::default(), |mut writer, pair| {
                writer.present_text(OF_SPAN, pair);
                writer
            });
            prop_assert_eq!(decode_attributes(&encoded.into_bytes()).collect::<Attributes>(), attributes);
        }

        #[test]
        fn others_are_appended_as_if_each_had_been_set(
            own in proptest::collection::vec(("[a-d]{1,2}", owned()), 0..6),
            others in proptest::collection::vec(("[a-d]{1,2}", owned()), 0..6),
        ) {
            let lent = |list: &[(String, Owned)]| -> Attributes {
                list.iter().map(|(key, value)| Attribute { key, value: value.lent() }).collect()
            };
            let (mut appended, mut set, others) = (lent(&own), lent(&own), lent(&others));
            appended.append(&others);
            others.iter().for_each(|attribute| _ = set.set(&attribute));
            prop_assert_eq!(appended, set);
        }

        #[test]
        fn whatever_a_guest_sends_is_read_to_its_end(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), like_protobuf: bool,
        ) {
            if like_protobuf {
                bytes.iter_mut().step_by(7).for_each(|byte| *byte = OF_SPAN as u8 * 8 + 2);
            }
            prop_assert!(decode_attributes(&bytes).count() <= bytes.len());
        }

        #[test]
        fn what_is_read_of_a_changed_encoding_is_what_others_read_there(
            key in "[a-d]{1,2}",
            value in owned(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
        ) {
            let pair = KeyValue { key, value: Some(value.proto()), ..KeyValue::default() };
            let mut bytes = pair.encode_to_vec();
            for (at, byte, change) in changes {
                let at = at.index(bytes.len());
                match change {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => bytes.truncate(at + 1),
                }
            }
            let mut writer = Writer::default();
            writer.present_text(OF_SPAN, &bytes);
            let encoded = writer.into_bytes();
            let read: Vec<_> = decode_attributes(&encoded).collect();
            prop_assert_eq!(read.len(), 1);
            if !read[0].key.is_empty() {
                let mut writer = Writer::default();
                read[0].write(&mut writer);
                let others = KeyValue::decode(&*bytes).map(|pair| pair.encode_to_vec());
                let written = writer.into_bytes();
                prop_assert_eq!(Reader::new(&written).delimited(), Some((OF_SPAN, &*others.unwrap())));
            }
        }
    }

    #[test]
    fn what_is_encoded_wrongly_has_no_key_and_spoils_nothing_before_it() {
        let keys =
            |bytes: &[u8]| decode_attributes(bytes).map(|attribute| attribute.key.to_owned()).collect::<Vec<_>>();
        let good = b"\x4a\x07\x0a\x01k\x12\x02\x10\x01";
        for (bad, why) in [
            (&b"\x4a\x07\x12\x02\x10\x01\x0a\x01k"[..], "the value comes first"),
            (b"\x4a\x07\x0a\x01\xff\x12\x02\x10\x01", "the key is no UTF-8"),
            (b"\x4a\x08\x0a\x01k\x12\x03\x0a\x01\xff", "the text is no UTF-8"),
            (b"\x4a\x07\x0a\x01k\x12\x02\x08\x01", "a text that is a number"),
            (b"\x4a\x05\x0a\x01k\x12\x00", "no value"),
            (b"\x4a\x07\x0a\x01k\x12\x02\x32\x00", "a map, which WIT does not have"),
            (b"\x4a\x09\x0a\x01k\x12\x04\x2a\x02\x0a\x00", "a list with nothing in it that is no text"),
            (b"\x0a\x01k", "another field of the span"),
            (b"\x4a\x09\x0a\x01k\x12\x02\x10\x01\x18\x05", "something behind the value"),
            (b"\x4a\x0b\x0a\x01k\x12\x02\x10\x01\x12\x02\x10\x00", "two values"),
            (b"\x4a\x09\x0a\x01k\x12\x04\x10\x01\x18\x05", "a value of two kinds"),
            (b"\x4a\x0d\x0a\x01k\x12\x08\x2a\x06\x0a\x04\x0a\x01x\xff", "something behind a text of a list"),
        ] {
            assert_eq!(keys(&[good, bad, good].concat()), ["k", "", "k"], "{why}");
        }
        for cut in 1..good.len() {
            assert_eq!(keys(&[&good[..], &good[..cut]].concat()), ["k", ""], "cut after {cut} bytes");
        }
    }

    #[test]
    fn no_more_is_looked_at_than_a_request_may_record() {
        let good = b"\x4a\x07\x0a\x01k\x12\x02\x10\x01";
        let fitting = MOST_ENCODED / good.len();
        assert_eq!(decode_attributes(&good.repeat(fitting + 1000)).count(), fitting + 1);
        let long = "x".repeat(MOST_ENCODED);
        let mut writer = Writer::default();
        Attribute::new("long", &long).write(&mut writer);
        let keys: Vec<_> = decode_attributes(&[good, &writer.into_bytes()[..], good].concat())
            .map(|attribute| attribute.key.len())
            .collect();
        assert_eq!(keys, [1, 0]);
    }

    #[test]
    fn what_stands_on_an_item_itself_goes_before_what_is_shared() {
        let own: Attributes = [Attribute::new("a", 1), Attribute::new("b", true)].into_iter().collect();
        let shared: Attributes = [Attribute::new("b", "shared"), Attribute::new("c", 0.5)].into_iter().collect();
        let mut writer = Writer::default();
        own.write(&mut writer, 9, &shared);
        let bytes = writer.into_bytes();
        let mut fields = Reader::new(&bytes);
        let mut keys = Vec::new();
        while let Some((field, message)) = fields.delimited() {
            assert_eq!(field, 9);
            keys.push(text(key(message)).unwrap());
        }
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!(own.get("b"), Some(Value::Boolean(true)));
        assert!(own.contains("a") && !own.contains("c"));
    }
}

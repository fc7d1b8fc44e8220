//! Attributes of spans, events and log records, stored in OTLP's encoding.
//!
//! A request sets about a hundred attributes. Each is encoded once, when it is set, as a `KeyValue` message. Exporting
//! then copies bytes, and attributes need no allocations of their own.

use std::ops::Range;

use super::protobuf::{Reader, Writer, field_size, varint_size};

/// The initial capacity in bytes: enough for most spans.
const INITIAL_CAPACITY: usize = 256;
/// The most bytes of encoded attributes that are decoded from one call. A request may not record more in any case.
const MAX_ENCODED_BYTES: usize = 4 << 20;
/// The number of the field `attributes` in the message `Span`. Most attributes belong to spans; they are copied
/// unchanged.
pub(super) const SPAN_ATTRIBUTES: u64 = 9;

/// An attribute with borrowed key and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
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
    /// A boolean.
    Boolean(bool),
    /// A list of strings.
    Texts(Vec<&'a str>),
}

/// Attributes with unique keys, in the order in which they were first set.
#[derive(Clone, Default, PartialEq)]
pub struct Attributes {
    /// Each attribute, encoded as the field [`SPAN_ATTRIBUTES`].
    encoded: Vec<u8>,
    count: usize,
    /// The [`bloom_bit`]s of all keys: a Bloom filter, which spares most lookups of missing keys.
    bloom: u128,
}

impl<'a> Attribute<'a> {
    /// An attribute.
    pub fn new(key: &'a str, value: impl Into<Value<'a>>) -> Attribute<'a> {
        Attribute { key, value: value.into() }
    }

    /// The approximate size in bytes.
    pub(in crate::trace) fn size(&self) -> usize {
        /// The bytes of tags, lengths and numbers.
        const OVERHEAD: usize = 20;
        let value = match &self.value {
            Value::Text(text) => text.len(),
            Value::Texts(texts) => texts.iter().map(|text| OVERHEAD + text.len()).sum(),
            _ => 0,
        };
        OVERHEAD + self.key.len() + value
    }

    /// Writes the attribute with all lengths computed in advance, so that no byte is moved.
    fn write(&self, writer: &mut Writer) {
        let any = self.value.encoded_size();
        let pair = field_size(self.key.len()) + field_size(any);
        writer.reserve(field_size(pair));
        writer.message_head(SPAN_ATTRIBUTES, pair);
        writer.present_text(1, self.key);
        writer.message_head(2, any);
        match &self.value {
            Value::Text(text) => writer.present_text(1, text),
            Value::Boolean(truth) => writer.present_uint(2, u64::from(*truth)),
            Value::Int(number) => writer.present_uint(3, *number as u64),
            Value::Double(number) => writer.present_double(4, *number),
            Value::Texts(texts) => {
                writer.message_head(5, list_size(texts));
                for text in texts {
                    writer.message_head(1, field_size(text.len()));
                    writer.present_text(1, text);
                }
            }
        }
    }
}

impl Value<'_> {
    /// The size of the `AnyValue` message in bytes.
    fn encoded_size(&self) -> usize {
        match self {
            Value::Text(text) => field_size(text.len()),
            Value::Boolean(_) => 2,
            Value::Int(number) => 1 + varint_size(*number as u64),
            Value::Double(_) => 1 + size_of::<f64>(),
            Value::Texts(texts) => field_size(list_size(texts)),
        }
    }
}

/// The size of an `ArrayValue` message with these texts, in bytes.
fn list_size(texts: &[&str]) -> usize {
    texts.iter().map(|text| field_size(field_size(text.len()))).sum()
}

impl Attributes {
    /// The number of attributes.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no attributes.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All attributes.
    pub fn iter(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.messages().filter_map(read)
    }

    /// The value of an attribute.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let pairs = self.messages().filter_map(pair);
        pairs.filter(|(known, _)| *known == key.as_bytes()).find_map(|(_, any)| value(any))
    }

    /// Whether an attribute with this key is set.
    pub fn contains(&self, key: &str) -> bool {
        self.position(key.as_bytes()).is_some()
    }

    /// Sets an attribute, replacing one with the same key. Returns the number of bytes that had to be moved.
    pub(in crate::trace) fn set(&mut self, attribute: &Attribute<'_>) -> usize {
        let known = self.position(attribute.key.as_bytes());
        let tail = known.map(|known| {
            let tail = self.encoded.split_off(known.end);
            self.encoded.truncate(known.start);
            tail
        });
        let mut writer = Writer::continuing(std::mem::take(&mut self.encoded), INITIAL_CAPACITY);
        attribute.write(&mut writer);
        match &tail {
            Some(tail) => writer.raw(tail),
            None => {
                self.count += 1;
                self.bloom |= bloom_bit(attribute.key.as_bytes());
            }
        }
        self.encoded = writer.into_bytes();
        tail.map_or(0, |tail| tail.len())
    }

    /// Sets all of `others`, replacing those with the same keys.
    pub(in crate::trace) fn append(&mut self, others: &Attributes) {
        if self.bloom & others.bloom != 0 {
            return others.iter().for_each(|attribute| _ = self.set(&attribute));
        }
        if self.encoded.capacity() == 0 {
            self.encoded.reserve(others.encoded.len() + 3 * INITIAL_CAPACITY);
        }
        self.encoded.extend_from_slice(&others.encoded);
        self.count += others.count;
        self.bloom |= others.bloom;
    }

    /// The encoded size in bytes.
    pub(in crate::trace) fn size(&self) -> usize {
        self.encoded.len()
    }

    /// The allocated memory in bytes.
    pub(in crate::trace) fn capacity(&self) -> usize {
        self.encoded.capacity()
    }

    /// Writes the attributes as the repeated field `field`, followed by those of `shared` with other keys.
    pub(super) fn write(&self, writer: &mut Writer, field: u64, shared: &Attributes) {
        let is_distinct = self.bloom & shared.bloom == 0;
        if field == SPAN_ATTRIBUTES && is_distinct {
            writer.raw(&self.encoded);
            writer.raw(&shared.encoded);
            return;
        }
        self.messages().for_each(|message| writer.present_text(field, message));
        let more = shared.messages().filter(|message| self.position(key(message)).is_none());
        more.for_each(|message| writer.present_text(field, message));
    }

    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = Reader::new(&self.encoded);
        std::iter::from_fn(move || left.delimited()).map(|(_, message)| message)
    }

    /// The range of the field that holds the attribute with this key.
    fn position(&self, wanted: &[u8]) -> Option<Range<usize>> {
        if self.bloom & bloom_bit(wanted) == 0 {
            return None;
        }
        let mut left = Reader::new(&self.encoded);
        let mut start = 0;
        while let Some((_, message)) = left.delimited() {
            let end = self.encoded.len() - left.len();
            if key(message) == wanted {
                return Some(start..end);
            }
            start = end;
        }
        None
    }
}

/// Decodes attributes that a guest has encoded as a `Span` message with only the field `attributes`. Invalid fields,
/// and everything after 4 MiB, yield an attribute with an empty key, which the recorder rejects and counts.
pub fn decode_attributes(encoded: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut left = Reader::new(encoded);
    std::iter::from_fn(move || {
        if left.len() == 0 {
            return None;
        }
        let field = left.delimited();
        let attribute = match field {
            Some((SPAN_ATTRIBUTES, message)) if encoded.len() - left.len() <= MAX_ENCODED_BYTES => read(message),
            Some(_) if encoded.len() - left.len() <= MAX_ENCODED_BYTES => None,
            // The input is too long, or so malformed that the next field cannot be found.
            _ => {
                left = Reader::new(&[]);
                None
            }
        };
        Some(attribute.unwrap_or_else(|| Attribute::new("", false)))
    })
}

/// One bit derived from the key. The factors are chosen so that keys of the semantic conventions rarely share a bit.
fn bloom_bit(key: &[u8]) -> u128 {
    let byte = |index: usize| usize::from(key.get(index).copied().unwrap_or_default());
    let (first, middle, last) = (byte(0), byte(key.len() / 2), byte(key.len().wrapping_sub(1)));
    1 << ((key.len() * 9 + first * 3 + middle * 3 + last * 2) % 128)
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

/// The strings in an `ArrayValue` message.
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

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Text(text) => formatter.write_str(text),
            Value::Int(number) => number.fmt(formatter),
            Value::Double(number) => number.fmt(formatter),
            Value::Boolean(truth) => truth.fmt(formatter),
            Value::Texts(texts) => write!(formatter, "{texts:?}"),
        }
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
#[path = "attributes_tests.rs"]
mod tests;

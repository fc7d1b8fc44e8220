//! Attributes of spans, events and log records, kept in the form in which they leave the host.
//!
//! A request sets a hundred of them. Each is written once, when it is set, as a `KeyValue` message of OTLP. Exporting
//! then copies bytes, and no attribute is an object of its own that has to be made, kept and freed.

use std::ops::Range;

use super::protobuf::{Reader, Writer};

/// RecordLimits that is taken with the first attribute: enough for most spans.
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

    /// The memory that they take, in bytes.
    pub(in crate::trace) fn capacity(&self) -> usize {
        self.written.capacity()
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

//! Encodes attributes for the host as the repeated field `attributes` of the OTLP message `Span`. As a list of records,
//! they would cost the host an allocation for each key and each text.

use std::cell::Cell;

use super::{Attribute, Value};

/// The number of the field `attributes` in `Span`.
const ATTRIBUTES_FIELD: u8 = 9;
/// Wire types of the protobuf encoding.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;

thread_local! {
    /// The buffer of an earlier call, reused.
    static BUFFER: Cell<Vec<u8>> = Cell::default();
}

/// Passes the encoded attributes to `send`.
pub fn encoded<'a, T>(attributes: impl IntoIterator<Item = Attribute<'a>>, send: impl FnOnce(&[u8]) -> T) -> T {
    let mut bytes = BUFFER.take();
    attributes.into_iter().for_each(|attribute| write(&mut bytes, &attribute));
    let result = send(&bytes);
    bytes.clear();
    BUFFER.set(bytes);
    result
}

/// `KeyValue`: the key (1) and an `AnyValue` (2), which has one field per type of value.
fn write(bytes: &mut Vec<u8>, Attribute { key, value }: &Attribute<'_>) {
    let any = size_of_value(value);
    length_delimited(bytes, ATTRIBUTES_FIELD, size_of_delimited(key.len()) + size_of_delimited(any));
    text(bytes, 1, key);
    length_delimited(bytes, 2, any);
    match value {
        Value::Text(content) => text(bytes, 1, content),
        Value::Boolean(boolean) => number(bytes, 2, u64::from(*boolean)),
        Value::Int(integer) => number(bytes, 3, integer.cast_unsigned()),
        Value::Double(double) => {
            bytes.push(4 << 3 | FIXED64);
            bytes.extend_from_slice(&double.to_le_bytes());
        }
        Value::Texts(texts) => {
            length_delimited(bytes, 5, size_of_list(texts));
            for content in *texts {
                length_delimited(bytes, 1, size_of_delimited(content.len()));
                text(bytes, 1, content);
            }
        }
    }
}

fn size_of_value(value: &Value<'_>) -> usize {
    match value {
        Value::Text(content) => size_of_delimited(content.len()),
        Value::Boolean(_) => 2,
        Value::Int(integer) => 1 + size_of_varint(integer.cast_unsigned()),
        Value::Double(_) => 9,
        Value::Texts(texts) => size_of_delimited(size_of_list(texts)),
    }
}

fn size_of_list(texts: &[&str]) -> usize {
    texts.iter().map(|content| size_of_delimited(size_of_delimited(content.len()))).sum()
}

/// The size of a field with its tag, which is one byte here, and its length.
fn size_of_delimited(length: usize) -> usize {
    1 + size_of_varint(length as u64) + length
}

fn size_of_varint(value: u64) -> usize {
    (64 - value.leading_zeros()).max(1).div_ceil(7) as usize
}

fn text(bytes: &mut Vec<u8>, field: u8, content: &str) {
    length_delimited(bytes, field, content.len());
    bytes.extend_from_slice(content.as_bytes());
}

fn length_delimited(bytes: &mut Vec<u8>, field: u8, length: usize) {
    bytes.push(field << 3 | LENGTH_DELIMITED);
    varint(bytes, length as u64);
}

fn number(bytes: &mut Vec<u8>, field: u8, value: u64) {
    bytes.push(field << 3 | VARINT);
    varint(bytes, value);
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: Value<'_>, expected: &[u8]) {
        // Nested calls must not share the buffer, because `send` may set attributes.
        encoded([Attribute { key: "k", value }], |bytes| {
            encoded([], |none| assert!(none.is_empty()));
            assert_eq!(bytes, expected);
        });
    }

    #[test]
    fn each_kind_of_value_is_encoded_as_protobuf() {
        check(Value::Text("ab"), b"\x4a\x09\x0a\x01k\x12\x04\x0a\x02ab");
        check(Value::Text(""), b"\x4a\x07\x0a\x01k\x12\x02\x0a\x00");
        check(Value::Boolean(true), b"\x4a\x07\x0a\x01k\x12\x02\x10\x01");
        check(Value::Int(300), b"\x4a\x08\x0a\x01k\x12\x03\x18\xac\x02");
        check(Value::Int(-1), b"\x4a\x10\x0a\x01k\x12\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        check(Value::Double(1.0), b"\x4a\x0e\x0a\x01k\x12\x09\x21\0\0\0\0\0\0\xf0\x3f");
        check(Value::Texts(&["a", ""]), b"\x4a\x10\x0a\x01k\x12\x0b\x2a\x09\x0a\x03\x0a\x01a\x0a\x02\x0a\x00");
    }

    #[test]
    fn a_long_text_has_a_length_of_several_bytes() {
        let long = "x".repeat(200);
        encoded([Attribute { key: "k", value: Value::Text(&long) }], |bytes| {
            assert!(bytes.starts_with(b"\x4a\xd1\x01\x0a\x01k\x12\xcb\x01\x0a\xc8\x01x"));
            assert_eq!(bytes.len(), 3 + 3 + 3 + 3 + 200);
        });
    }
}

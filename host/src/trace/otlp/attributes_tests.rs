//! Checks the encoded attributes against the generated messages of OTLP.

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

    /// The value as a generated message.
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
    fn attributes_are_encoded_and_decoded_like_the_generated_messages(
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
        // Guests encode with other libraries.
        let encoded = proto.iter().fold(Writer::default(), |mut writer, pair| {
            writer.present_text(SPAN_ATTRIBUTES, pair);
            writer
        });
        prop_assert_eq!(decode_attributes(&encoded.into_bytes()).collect::<Attributes>(), attributes);
    }

    #[test]
    fn appending_equals_setting_each_attribute(
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
    fn any_input_of_a_guest_is_decoded_without_a_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200), like_protobuf: bool,
    ) {
        if like_protobuf {
            bytes.iter_mut().step_by(7).for_each(|byte| *byte = SPAN_ATTRIBUTES as u8 * 8 + 2);
        }
        prop_assert!(decode_attributes(&bytes).count() <= bytes.len());
    }

    #[test]
    fn mutated_input_is_decoded_like_the_generated_messages_or_rejected(
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
        writer.present_text(SPAN_ATTRIBUTES, &bytes);
        let encoded = writer.into_bytes();
        let read: Vec<_> = decode_attributes(&encoded).collect();
        prop_assert_eq!(read.len(), 1);
        if !read[0].key.is_empty() {
            let mut writer = Writer::default();
            read[0].write(&mut writer);
            let others = KeyValue::decode(&*bytes).map(|pair| pair.encode_to_vec());
            let encoded = writer.into_bytes();
            prop_assert_eq!(Reader::new(&encoded).delimited(), Some((SPAN_ATTRIBUTES, &*others.unwrap())));
        }
    }
}

#[test]
fn an_invalid_attribute_has_no_key_and_does_not_affect_earlier_ones() {
    let keys = |bytes: &[u8]| decode_attributes(bytes).map(|attribute| attribute.key.to_owned()).collect::<Vec<_>>();
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
fn decoding_stops_after_the_most_bytes_of_a_request() {
    let good = b"\x4a\x07\x0a\x01k\x12\x02\x10\x01";
    let fitting = MAX_ENCODED_BYTES / good.len();
    assert_eq!(decode_attributes(&good.repeat(fitting + 1000)).count(), fitting + 1);
    let long = "x".repeat(MAX_ENCODED_BYTES);
    let mut writer = Writer::default();
    Attribute::new("long", &long).write(&mut writer);
    let keys: Vec<_> = decode_attributes(&[good, &writer.into_bytes()[..], good].concat())
        .map(|attribute| attribute.key.len())
        .collect();
    assert_eq!(keys, [1, 0]);
}

#[test]
fn own_attributes_take_precedence_over_shared_ones() {
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

//! The protobuf wire format: a writer into one growing buffer, and a zero-copy reader.
//!
//! Spans are encoded directly from the records: building the generated messages first would copy every text twice, and
//! exporting shares the CPU with requests. Input may come from a guest, so the reader trusts nothing.

/// Wire types of the protobuf encoding.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// A message under construction. Fields with proto3's default value are omitted, unless a method says otherwise.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// Reads fields one after another. Returns `None` at the end and for malformed input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl Writer {
    /// A writer that appends to `bytes`. If they have no capacity yet, `usual` bytes are reserved.
    pub fn continuing(mut bytes: Vec<u8>, usual: usize) -> Writer {
        if bytes.capacity() == 0 {
            bytes.reserve(usual);
        }
        Writer { bytes }
    }

    /// Reserves memory for at least this many bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// The encoded bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends encoded fields.
    pub fn raw(&mut self, fields: &[u8]) {
        self.bytes.extend_from_slice(fields);
    }

    /// `uint32`, `uint64` or an enumeration.
    pub fn uint(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.present_uint(field, value);
        }
    }

    /// `int64` or `bool` in a oneof. Default values are written too.
    pub fn present_uint(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | VARINT);
        self.varint(value);
    }

    /// `double` in a oneof. Default values are written too.
    pub fn present_double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | FIXED64);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// `fixed64`.
    pub fn fixed64(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3 | FIXED64);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `fixed32`.
    pub fn fixed32(&mut self, field: u64, value: u32) {
        if value != 0 {
            self.varint(field << 3 | FIXED32);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `string` or `bytes`.
    pub fn text(&mut self, field: u64, value: impl AsRef<[u8]>) {
        if !value.as_ref().is_empty() {
            self.present_text(field, value);
        }
    }

    /// `string` in a oneof. Default values are written too.
    pub fn present_text(&mut self, field: u64, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.message_head(field, value.len());
        self.bytes.extend_from_slice(value);
    }

    /// A nested message, written by `fields`.
    pub fn message(&mut self, field: u64, fields: impl FnOnce(&mut Writer)) {
        // Most messages are shorter than 128 bytes.
        self.message_of_about(field, 0, fields);
    }

    /// The same for a message of about `expected` bytes: if its length has as many digits, no byte is moved.
    pub fn message_of_about(&mut self, field: u64, expected: usize, fields: impl FnOnce(&mut Writer)) {
        self.varint(field << 3 | DELIMITED);
        self.delimited(varint_size(expected as u64), fields);
    }

    /// The tag and length of a nested message, whose bytes the caller writes next.
    pub fn message_head(&mut self, field: u64, length: usize) {
        self.varint(field << 3 | DELIMITED);
        self.varint(length as u64);
    }

    /// A length-delimited message without its tag. `reserved` bytes are kept free for the length.
    fn delimited(&mut self, reserved: usize, fields: impl FnOnce(&mut Writer)) {
        let at = self.bytes.len();
        self.bytes.resize(at + reserved, 0);
        fields(self);
        let end = self.bytes.len();
        let length = end - at - reserved;
        let size = varint_size(length as u64);
        if size != reserved {
            self.bytes.resize(end.max(at + size + length), 0);
            self.bytes.copy_within(at + reserved..end, at + size);
            self.bytes.truncate(at + size + length);
        }
        let mut left = length as u64;
        for (index, byte) in self.bytes.iter_mut().skip(at).take(size).enumerate() {
            *byte = left as u8 & 0x7f | if index + 1 < size { 0x80 } else { 0 };
            left >>= 7;
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    /// The number of unread bytes.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// The number of the next field, without reading it.
    pub fn peek(mut self) -> Option<u64> {
        self.varint().map(|tag| tag >> 3)
    }

    /// Reads a string, bytes or a message, and the number of its field.
    pub fn delimited(&mut self) -> Option<(u64, &'a [u8])> {
        let field = self.tag(DELIMITED)?;
        Some((field, self.counted()?))
    }

    /// Reads a varint field.
    pub fn uint(&mut self) -> Option<u64> {
        self.tag(VARINT)?;
        self.varint()
    }

    /// Reads a `double` field.
    pub fn double(&mut self) -> Option<f64> {
        self.tag(FIXED64)?;
        let (value, rest) = self.left.split_first_chunk()?;
        self.left = rest;
        Some(f64::from_le_bytes(*value))
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?;
        let (value, rest) = self.left.split_at_checked(usize::try_from(length).ok()?)?;
        self.left = rest;
        Some(value)
    }

    /// Reads a tag with this wire type, and returns the number of the field.
    #[inline]
    fn tag(&mut self, wire_type: u64) -> Option<u64> {
        let tag = self.varint()?;
        (tag & 7 == wire_type).then_some(tag >> 3)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (first, rest) = self.left.split_first()?;
        if *first < 0x80 {
            self.left = rest;
            return Some(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.left.split_first()?;
            self.left = rest;
            if shift == 63 && *first > 1 {
                return None;
            }
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// The size of a varint in bytes.
pub(super) fn varint_size(value: u64) -> usize {
    if value < 0x80 { 1 } else { (64 - value.leading_zeros()).div_ceil(7) as usize }
}

/// The size of a length-delimited field with a number below 16 and this many bytes of content.
pub(super) fn field_size(content: usize) -> usize {
    1 + varint_size(content as u64) + content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_input_yields_nothing() {
        for bytes in [&[][..], &[0xff; 20], &[0x0a, 5, 1], &[0x0a]] {
            assert_eq!(Reader::new(bytes).delimited(), None, "{bytes:?}");
        }
        assert_eq!(Reader::new(&[0x21, 1, 2]).double(), None);
        let most = [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&most).uint(), Some(u64::MAX));
        assert_eq!(Reader::new(&[&most[..10], &[0x02]].concat()).uint(), None, "it has 65 bits");
    }

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        let lengths = [0, 1, 127, 128, 300, 16_383, 16_384, 3_000_000];
        for (length, about) in lengths.into_iter().flat_map(|length| lengths.map(|about| (length, about))) {
            let mut writer = Writer::default();
            writer.message_of_about(2, about, |inner| inner.raw(&vec![7; length]));
            let mut expected = vec![2 << 3 | 2];
            prost::encoding::encode_varint(length as u64, &mut expected);
            expected.extend(vec![7; length]);
            assert_eq!(writer.into_bytes(), expected, "{length}, about {about}");
        }
    }
}

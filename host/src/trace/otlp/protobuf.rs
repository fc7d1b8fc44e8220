//! Writes the protobuf wire format into one growing buffer.
//!
//! Spans are written straight from the records: building the generated messages first would copy every text twice, and
//! the export task shares its cores with requests.

/// Wire types of the protobuf encoding.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// A message under construction. Fields with proto3's default value are left out, except where a method says otherwise.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A writer with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { bytes: Vec::with_capacity(bytes) }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How much was written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Fields that are encoded already.
    pub fn raw(&mut self, fields: &[u8]) {
        self.bytes.extend_from_slice(fields);
    }

    /// `uint32`, `uint64` or an enumeration.
    pub fn uint(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.present_uint(field, value);
        }
    }

    /// `int64` or `bool` of a oneof, which is written whatever it is.
    pub fn present_uint(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | VARINT);
        self.varint(value);
    }

    /// `double` of a oneof, which is written whatever it is.
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

    /// `string` of a oneof, which is written whatever it is.
    pub fn present_text(&mut self, field: u64, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.varint(field << 3 | DELIMITED);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// A message within this one, written by `fields`.
    pub fn message(&mut self, field: u64, fields: impl FnOnce(&mut Writer)) {
        self.varint(field << 3 | DELIMITED);
        let at = self.bytes.len();
        // Most messages are shorter than 128 bytes, and their length then fits this one byte.
        self.bytes.push(0);
        fields(self);
        let length = self.bytes.len() - at - 1;
        let size = varint_size(length as u64);
        if size > 1 {
            let end = self.bytes.len();
            self.bytes.resize(end + size - 1, 0);
            self.bytes.copy_within(at + 1..end, at + size);
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

fn varint_size(value: u64) -> usize {
    (64 - value.leading_zeros()).max(1).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_any_size_are_written_in_the_shortest_form() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 3_000_000] {
            let mut writer = Writer::default();
            writer.message(2, |inner| inner.raw(&vec![7; length]));
            let mut expected = vec![2 << 3 | 2];
            prost::encoding::encode_varint(length as u64, &mut expected);
            expected.extend(vec![7; length]);
            assert_eq!(writer.into_bytes(), expected, "{length}");
        }
    }
}

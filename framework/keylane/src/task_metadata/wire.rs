//! The part of protobuf's wire format that task metadata needs.

use super::MetadataError;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const START_GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const FIXED32: u64 = 5;

/// The deepest nesting of (unknown) groups that is skipped: protobuf's own recursion limit.
const MAX_GROUP_DEPTH: usize = 100;

pub(super) fn put_int64(out: &mut Vec<u8>, field: u64, value: i64) {
    if value != 0 {
        put_varint(out, field << 3 | VARINT);
        put_varint(out, value.cast_unsigned());
    }
}

pub(super) fn put_string(out: &mut Vec<u8>, field: u64, value: &str) {
    if !value.is_empty() {
        put_varint(out, field << 3 | LENGTH_DELIMITED);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(value.as_bytes());
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The value of a field.
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number or a group: nothing that task metadata uses.
    Other,
}

/// Reads one message, field by field.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next field's number and value; `None` at the end of the message.
    pub(super) fn next_field(&mut self) -> Result<Option<(u64, Value<'a>)>, MetadataError> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        let (field, wire_type) = self.tag()?;
        let value = match wire_type {
            START_GROUP => {
                self.skip_group(field)?;
                Value::Other
            }
            END_GROUP => return Err(self.malformed("a group ends that did not start")),
            _ => self.value(wire_type)?,
        };
        Ok(Some((field, value)))
    }

    /// Text of a string field: proto3 demands UTF-8.
    pub(super) fn text(&self, bytes: &'a [u8]) -> Result<&'a str, MetadataError> {
        std::str::from_utf8(bytes).map_err(|_| self.malformed("a string is not UTF-8"))
    }

    fn tag(&mut self) -> Result<(u64, u64), MetadataError> {
        let tag = self.varint()?;
        let field = tag >> 3;
        if field == 0 || tag > u64::from(u32::MAX) {
            return Err(self.malformed("a field number is out of range"));
        }
        Ok((field, tag & 7))
    }

    fn value(&mut self, wire_type: u64) -> Result<Value<'a>, MetadataError> {
        match wire_type {
            VARINT => self.varint().map(Value::Varint),
            FIXED64 => self.take(8).map(|_| Value::Other),
            FIXED32 => self.take(4).map(|_| Value::Other),
            LENGTH_DELIMITED => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| self.malformed("a length is out of range"))?;
                self.take(length).map(Value::Bytes)
            }
            _ => Err(self.malformed("a wire type is unknown")),
        }
    }

    /// Iterative, so that a hostile header cannot exhaust the stack.
    fn skip_group(&mut self, field: u64) -> Result<(), MetadataError> {
        let mut open = vec![field];
        while let Some(innermost) = open.last() {
            let innermost = *innermost;
            match self.tag()? {
                (field, END_GROUP) if field == innermost => {
                    open.pop();
                }
                (_, END_GROUP) => return Err(self.malformed("a group ends that did not start")),
                (field, START_GROUP) if open.len() < MAX_GROUP_DEPTH => open.push(field),
                (_, START_GROUP) => return Err(self.malformed("groups are nested too deeply")),
                (_, wire_type) => {
                    self.value(wire_type)?;
                }
            }
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, MetadataError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            // The tenth byte carries one bit; protobuf drops what is above.
            value |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number has more than ten bytes"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], MetadataError> {
        let rest = &self.bytes[self.position..];
        if length > rest.len() {
            return Err(self.malformed("the message ends inside a field"));
        }
        self.position += length;
        Ok(&rest[..length])
    }

    fn malformed(&self, reason: &'static str) -> MetadataError {
        MetadataError { position: self.position, reason }
    }
}

//! Requests that the client library cannot make, or only through its C interface: some are a few
//! strings long.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use super::{again::Refusal, client::REQUEST};

/// No answer of the requests made here comes near it.
const MOST: usize = 1 << 20;

/// A request in the making; numbers are big-endian.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// With the header of the versions that are not "flexible".
    pub(super) fn new(api_key: i16, version: i16) -> Self {
        let start = Self(Vec::new()).int16(api_key).int16(version);
        start.int32(0).text("keylane-harness")
    }

    /// With the header of the "flexible" versions, where lengths are small numbers and structures
    /// end with a count of tags.
    pub(super) fn flexible(api_key: i16, version: i16) -> Self {
        Self::new(api_key, version).no_tags()
    }

    pub(super) fn int8(mut self, value: i8) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn int16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn int32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self = self.int16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.extend(text.as_bytes());
        self
    }

    /// Text or bytes of a "flexible" version, or the length of an array. At most 126 long, which
    /// all of ours are.
    pub(super) fn compact(mut self, bytes: &[u8]) -> Self {
        self = self.compact_length(bytes.len());
        self.0.extend(bytes);
        self
    }

    pub(super) fn compact_length(self, length: usize) -> Self {
        assert!(length < 127, "a length of one byte");
        self.int8(length as i8 + 1)
    }

    pub(super) fn no_tags(self) -> Self {
        self.int8(0)
    }

    /// Sends it on a connection of its own and returns the answer behind its correlation id.
    /// Blocks.
    pub(super) fn exchange(&self, address: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(REQUEST))?;
        stream.write_all(
            &u32::try_from(self.0.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        )?;
        stream.write_all(&self.0)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(4..MOST).contains(&length) {
            return Err(io::Error::other(format!(
                "the broker answered with {length} bytes"
            )));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok(answer.split_off(4))
    }
}

/// An error for what is no 0 at this place of an answer.
pub(super) fn no_error_at(answer: &[u8], at: usize) -> io::Result<()> {
    match Answer::of(answer.get(at..).unwrap_or_default()).int16()? {
        0 => Ok(()),
        code => Err(io::Error::other(Refusal(code))),
    }
}

/// What is left of an answer that is read from its beginning.
pub(super) struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    pub(super) fn of(answer: &'a [u8]) -> Self {
        Self(answer)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn int8(&mut self) -> io::Result<i8> {
        self.take().map(i8::from_be_bytes)
    }

    pub(super) fn int16(&mut self) -> io::Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    pub(super) fn int32(&mut self) -> io::Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    pub(super) fn int32s(&mut self) -> io::Result<Vec<i32>> {
        (0..self.int32()?).map(|_| self.int32()).collect()
    }

    /// A text that is missing has the length -1.
    pub(super) fn skip_text(&mut self) -> io::Result<()> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        self.0 = self.0.get(length..).ok_or_else(too_short)?;
        Ok(())
    }
}

fn too_short() -> io::Error {
    io::Error::other("the broker's answer is too short")
}

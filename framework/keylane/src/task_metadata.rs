//! `dt_meta`: Decaton's task metadata. STAND-IN: replaced by the producer helper's file of the same name.

/// What a producer says about a task, in Decaton's `dt_meta` header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskMetadata {
    /// When the task was made, in milliseconds since the Unix epoch.
    pub timestamp_millis: i64,
    /// Which application made it.
    pub source_application_id: String,
    /// Which instance of it.
    pub source_instance_id: String,
    /// How often it went through a retry topic.
    pub retry_count: i64,
    /// Not to be processed before this time, in milliseconds since the Unix epoch; 0 is at once.
    pub scheduled_time_millis: i64,
}

#[allow(dead_code)]
impl TaskMetadata {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_number(&mut bytes, 0x08, self.timestamp_millis);
        put_text(&mut bytes, 0x12, &self.source_application_id);
        put_text(&mut bytes, 0x1a, &self.source_instance_id);
        put_number(&mut bytes, 0x20, self.retry_count);
        put_number(&mut bytes, 0x28, self.scheduled_time_millis);
        bytes
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut metadata = Self::default();
        while !bytes.is_empty() {
            match take_varint(&mut bytes)? {
                0x08 => metadata.timestamp_millis = take_varint(&mut bytes)? as i64,
                0x12 => metadata.source_application_id = take_text(&mut bytes)?,
                0x1a => metadata.source_instance_id = take_text(&mut bytes)?,
                0x20 => metadata.retry_count = take_varint(&mut bytes)? as i64,
                0x28 => metadata.scheduled_time_millis = take_varint(&mut bytes)? as i64,
                _ => return Err("unknown field"),
            }
        }
        Ok(metadata)
    }
}

fn put_number(bytes: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        bytes.push(tag);
        put_varint(bytes, number as u64);
    }
}

fn put_text(bytes: &mut Vec<u8>, tag: u8, text: &str) {
    if !text.is_empty() {
        bytes.push(tag);
        put_varint(bytes, text.len() as u64);
        bytes.extend_from_slice(text.as_bytes());
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("ends within a number")?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("number too long")
}

fn take_text(bytes: &mut &[u8]) -> Result<String, &'static str> {
    let length = usize::try_from(take_varint(bytes)?).map_err(|_| "text too long")?;
    let text = bytes.get(..length).ok_or("ends within a text")?;
    *bytes = &bytes[length..];
    String::from_utf8(text.to_vec()).map_err(|_| "not UTF-8")
}

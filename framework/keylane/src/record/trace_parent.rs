//! The header `traceparent` of the W3C Trace Context.

use std::fmt;
use std::str::FromStr;

use super::Headers;

/// Names the span that made a record, and the trace it belongs to. It is the W3C Trace Context's
/// `traceparent`, which producers of all languages write as a header of the record.
///
/// # What counts as one?
/// Version `00` as the [specification](https://www.w3.org/TR/trace-context/) writes it: 55
/// characters, lower-case, neither id all zeros. Of a later version the first 55 characters are
/// read the same way, and what follows them must begin with `-`. Anything else is no trace context,
/// and a record that carries it is treated as one without. Of the flags *sampled* is kept.
///
/// # Examples
/// ```
/// use keylane::trace::TraceParent;
///
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert!(parent.is_sampled());
/// assert_eq!(parent.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
/// # Ok::<(), keylane::trace::TraceParentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent of the W3C Trace Context: write version, trace id, parent id and flags as 2, 32, 16 and 2 lower-case \
     hexadecimal digits with dashes between them, neither id all zeros"
)]
#[non_exhaustive]
pub struct TraceParentError;

/// The name of the header.
pub(crate) const TRACE_PARENT: &str = "traceparent";
/// The name of the header with what vendors add, which means nothing without the other.
pub(crate) const TRACE_STATE: &str = "tracestate";

/// The only flag that the specification gives a meaning; the others are to be written as 0.
const SAMPLED: u8 = 1;
/// `00-` trace id `-` parent id `-` flags.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

impl TraceParent {
    /// From its parts; `None` where an id is all zeros. Flags other than 1, *sampled*, are dropped.
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8], flags: u8) -> Option<Self> {
        let valid = trace_id != [0; 16] && parent_id != [0; 8];
        valid.then_some(Self {
            trace_id,
            parent_id,
            flags: flags & SAMPLED,
        })
    }

    /// Of a record: its last header `traceparent`. `None` where there is none, or it cannot be
    /// read.
    ///
    /// # Examples
    /// ```
    /// use keylane::Headers;
    /// use keylane::trace::TraceParent;
    ///
    /// let headers: Headers = [("traceparent", "not one")].into_iter().collect();
    /// assert_eq!(TraceParent::read(&headers), None);
    /// ```
    pub fn read(headers: &Headers) -> Option<Self> {
        parse(headers.last(TRACE_PARENT)?)
    }

    /// The trace, of which all spans have the same.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span that made the record.
    pub fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Whether the producer of the record keeps its part of the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    #[cfg(feature = "otel")]
    pub(crate) fn flags(&self) -> u8 {
        self.flags
    }
}

/// The form in the header, always version `00`.
impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, parent_id) = (
            u128::from_be_bytes(self.trace_id),
            u64::from_be_bytes(self.parent_id),
        );
        write!(
            formatter,
            "00-{trace_id:032x}-{parent_id:016x}-{:02x}",
            self.flags
        )
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        parse(text.as_bytes()).ok_or(TraceParentError)
    }
}

/// Reads no more than the first 56 bytes, whatever their number.
fn parse(text: &[u8]) -> Option<TraceParent> {
    let (head, rest) = text.split_at_checked(LENGTH)?;
    if [head[2], head[35], head[52]] != *b"---" {
        return None;
    }
    let [version] = bytes(&head[..2])?;
    match (version, rest.first()) {
        (0..=0xfe, None) | (1..=0xfe, Some(b'-')) => {}
        _ => return None,
    }
    let [flags] = bytes(&head[53..])?;
    TraceParent::new(bytes(&head[3..35])?, bytes(&head[36..52])?, flags)
}

/// Reads `2 * N` digits.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read_part_by_part() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        assert_eq!(
            u128::from_be_bytes(parent.trace_id()),
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736
        );
        assert_eq!(
            u64::from_be_bytes(parent.parent_id()),
            0x00f0_67aa_0ba9_02b7
        );
        assert!(parent.is_sampled());
        assert!(
            !EXAMPLE
                .replace("-01", "-00")
                .parse::<TraceParent>()
                .unwrap()
                .is_sampled()
        );
    }

    #[test]
    fn of_a_later_version_what_is_known_is_read() {
        for later in ["01", "cc", "fe"] {
            let same = EXAMPLE.replacen("00", later, 1);
            assert_eq!(same.parse::<TraceParent>().unwrap().to_string(), EXAMPLE);
            assert_eq!(
                (same.clone() + "-what-the-future-holds")
                    .parse::<TraceParent>()
                    .unwrap()
                    .to_string(),
                EXAMPLE
            );
            assert_eq!(
                (same + "1").parse::<TraceParent>(),
                Err(TraceParentError),
                "flags of three digits"
            );
        }
    }

    #[test]
    fn flags_without_a_meaning_are_not_sent_on() {
        assert_eq!(
            EXAMPLE
                .replace("-01", "-ff")
                .parse::<TraceParent>()
                .unwrap()
                .to_string(),
            EXAMPLE
        );
    }

    #[test]
    fn what_the_specification_forbids_is_no_trace_context() {
        let zero_trace = EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_parent = EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16));
        for wrong in [
            "",
            "00",
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replacen("00", "ff", 1),
            &EXAMPLE.replacen("00", "0g", 1),
            &EXAMPLE.replacen('-', "_", 1),
            &EXAMPLE[..54],
            &format!("{EXAMPLE}-01"),
            &format!(" {EXAMPLE}"),
            &format!("{EXAMPLE} "),
            &EXAMPLE.replace("4bf9", "+bf9"),
            &EXAMPLE.replace("4bf9", "4b é"),
            &zero_trace,
            &zero_parent,
        ] {
            assert_eq!(
                wrong.parse::<TraceParent>(),
                Err(TraceParentError),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn the_last_header_counts_and_one_that_cannot_be_read_is_none() {
        let mut headers: Headers = [("traceparent", "mine"), ("traceparent", EXAMPLE)]
            .into_iter()
            .collect();
        assert_eq!(
            TraceParent::read(&headers)
                .map(|parent| parent.to_string())
                .as_deref(),
            Some(EXAMPLE)
        );
        headers.push("traceparent", &b"\xff\xfe"[..]);
        assert_eq!(TraceParent::read(&headers), None);
        assert_eq!(TraceParent::read(&Headers::new()), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace_id in any::<[u8; 16]>(), parent_id in any::<[u8; 8]>(), flags in any::<u8>()) {
            if let Some(parent) = TraceParent::new(trace_id, parent_id, flags) {
                prop_assert_eq!(parent.to_string().parse(), Ok(parent));
            }
        }

        #[test]
        fn no_bytes_are_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
        }

        /// One character off: either it is no trace context, or it is another one, with the values
        /// that were written.
        #[test]
        fn one_wrong_character_is_noticed(at in 0..LENGTH, character in any::<char>()) {
            let mut characters: Vec<char> = EXAMPLE.chars().collect();
            characters[at] = character;
            let text: String = characters.into_iter().collect();
            if let Ok(parent) = text.parse::<TraceParent>() {
                prop_assert_eq!(&parent.to_string()[3..53], &text[3..53]);
            }
        }
    }
}

//! The header `traceparent` of the W3C Trace Context, and `b3` in its place.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

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

/// The name of the header in Zipkin's form.
const B3: &str = "b3";

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

    /// Of a record: its last header `traceparent`. `None` where it cannot be read.
    ///
    /// A record without that header may have `b3`, which Brave writes, and with it Decaton's
    /// documented tracing: `{trace}-{span}`, then `-{sampled}` and `-{parent}` where they are known.
    /// A trace id of 64 bits has zeros before it. Without a decision the trace counts as not
    /// sampled; `0` alone, a decision without ids, is no trace context.
    ///
    /// # Examples
    /// ```
    /// use keylane::Headers;
    /// use keylane::trace::TraceParent;
    ///
    /// let headers: Headers = [("traceparent", "not one")].into_iter().collect();
    /// assert_eq!(TraceParent::read(&headers), None);
    ///
    /// let headers: Headers = [("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")].into_iter().collect();
    /// let parent = TraceParent::read(&headers).map(|it| it.to_string());
    /// let expected = "00-0000000000000000a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// assert_eq!(parent.as_deref(), Some(expected));
    /// ```
    pub fn read(headers: &Headers) -> Option<Self> {
        match headers.last(TRACE_PARENT) {
            Some(text) => parse(text),
            None => parse_b3(headers.last(B3)?),
        }
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

/// The last header `tracestate`, which belongs to `traceparent` alone.
pub(crate) fn trace_state(headers: &Headers) -> Option<&Bytes> {
    headers.last(TRACE_PARENT)?;
    headers.last(TRACE_STATE)
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

/// Longer than any form of it; `{trace}-{span}-{sampled}-{parent}` has 68 characters.
const MAX_B3_BYTES: usize = 68;

/// `{trace}-{span}`, with `-{sampled}`, `-{parent}` or both behind it. Brave writes a parent without
/// a decision too.
fn parse_b3(text: &[u8]) -> Option<TraceParent> {
    let mut parts = text
        .get(..MAX_B3_BYTES.min(text.len()))
        .filter(|head| head.len() == text.len())?
        .split(|character| *character == b'-');
    let (trace, span) = (parts.next()?, parts.next()?);
    let (third, fourth, rest) = (parts.next(), parts.next(), parts.next());
    let (flags, parent) = match third {
        None => (0, None),
        Some(b"0") => (0, fourth),
        Some(b"1" | b"d") => (SAMPLED, fourth),
        Some(_) if fourth.is_none() => (0, third),
        Some(_) => return None,
    };
    if rest.is_some() || parent.is_some_and(|it| exactly::<8>(it).is_none()) {
        return None;
    }
    let trace = match exactly::<8>(trace) {
        Some(low) => u128::from(u64::from_be_bytes(low)).to_be_bytes(),
        None => exactly::<16>(trace)?,
    };
    TraceParent::new(trace, exactly::<8>(span)?, flags)
}

fn exactly<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    (digits.len() == 2 * N).then(|| bytes(digits)).flatten()
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

    fn of_b3(text: &str) -> Option<String> {
        let headers: Headers = [("b3", text.to_owned())].into_iter().collect();
        TraceParent::read(&headers).map(|it| it.to_string())
    }

    #[test]
    fn every_form_of_b3_is_read_where_there_is_no_traceparent() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let parent = "05e3ac9a4f6e3b90";
        for (rest, flags) in [
            ("".to_owned(), "00"),
            ("-0".to_owned(), "00"),
            ("-1".to_owned(), "01"),
            ("-d".to_owned(), "01"),
            (format!("-0-{parent}"), "00"),
            (format!("-1-{parent}"), "01"),
            (format!("-d-{parent}"), "01"),
            (format!("-{parent}"), "00"),
        ] {
            let expected = format!("00-{trace}-{span}-{flags}");
            assert_eq!(of_b3(&format!("{trace}-{span}{rest}")), Some(expected));
            let expected = format!("00-{:0>32}-{span}-{flags}", &trace[16..]);
            assert_eq!(
                of_b3(&format!("{}-{span}{rest}", &trace[16..])),
                Some(expected)
            );
        }
        let both: Headers = [
            ("traceparent", EXAMPLE),
            ("b3", "a3ce929d0e0e4736-1111111111111111"),
        ]
        .into_iter()
        .collect();
        let read = TraceParent::read(&both).map(|it| it.to_string());
        assert_eq!(read.as_deref(), Some(EXAMPLE));
        let damaged: Headers = [
            ("traceparent", "00"),
            ("b3", "a3ce929d0e0e4736-1111111111111111"),
        ]
        .into_iter()
        .collect();
        assert_eq!(TraceParent::read(&damaged), None);
    }

    #[test]
    fn what_is_no_b3_with_ids_is_no_trace_context() {
        let (trace, span) = ("a3ce929d0e0e4736", "00f067aa0ba902b7");
        for wrong in [
            "",
            "0",
            "1",
            "d",
            "-",
            trace,
            &format!("{trace}-"),
            &format!("{trace}-{span}-"),
            &format!("{trace}-{span}-2"),
            &format!("{trace}-{span}-1-"),
            &format!("{trace}-{span}-1-1"),
            &format!("{trace}-{span}-{span}-1"),
            &format!("{trace}-{span}-1-{span}-1"),
            &format!("{trace}-{span}-1-{span}x"),
            &format!("{}-{span}", &trace[1..]),
            &format!("{trace}0-{span}"),
            &format!("{trace}{trace}{trace}{trace}{trace}-{span}"),
            &format!("{}-{span}", trace.to_uppercase()),
            &format!("{}-{span}", "0".repeat(16)),
            &format!("{trace}-{}", "0".repeat(16)),
        ] {
            assert_eq!(of_b3(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_trace_state_belongs_to_a_traceparent() {
        let state = ("tracestate", "a=1");
        let b3: Headers = [state, ("b3", "a3ce929d0e0e4736-00f067aa0ba902b7")]
            .into_iter()
            .collect();
        assert_eq!(trace_state(&b3), None);
        let w3c: Headers = [state, ("traceparent", EXAMPLE)].into_iter().collect();
        assert_eq!(trace_state(&w3c).map(|it| &**it), Some(&b"a=1"[..]));
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
            let _ = parse_b3(&bytes);
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

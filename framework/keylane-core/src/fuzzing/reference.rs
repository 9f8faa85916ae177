//! A second reader of the sections of a commit's metadata. It is slow, computes in numbers that
//! cannot overflow, and shares no line with the reader it is compared to.

use crate::evidence::{Evidence, GROUP, Instance, MAX_SUSPECTS, Named, Suspect};
use crate::log_id::LogId;
use crate::offset::{LeaderEpoch, Offset, Position};

#[derive(Default)]
pub(super) struct Expected {
    pub(super) settled: Vec<(i128, i128)>,
    pub(super) evidence: Evidence,
    pub(super) log: Option<LogId>,
    pub(super) leader_epoch: Option<LeaderEpoch>,
    /// Tags this reader does not know: the other one may, and have reasons of its own to refuse
    /// them.
    pub(super) has_other_tags: bool,
}

pub(super) fn read(position: Position, mut bytes: &[u8]) -> Option<Expected> {
    let mut expected = Expected::default();
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let tag = bytes[0];
        bytes = &bytes[1..];
        let length = number(&mut bytes)?;
        if length > bytes.len() as u128 {
            return None;
        }
        let content = &bytes[..length as usize];
        bytes = &bytes[length as usize..];
        match tag {
            1..=4 if seen.contains(&tag) => return None,
            1 => expected.settled = settled(position, content)?,
            2 => expected.evidence = evidence(position, content)?,
            3 => expected.log = Some(LogId::from_bytes(content.try_into().ok()?)),
            4 => {
                let mut rest = content;
                expected.leader_epoch =
                    Some(LeaderEpoch::new(u32::try_from(number(&mut rest)?).ok()?));
                if !rest.is_empty() {
                    return None;
                }
            }
            _ => expected.has_other_tags = true,
        }
        seen.push(tag);
    }
    Some(expected)
}

fn settled(position: Position, content: &[u8]) -> Option<Vec<(i128, i128)>> {
    let bits: String = content.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut numbers = Vec::new();
    let mut rest = bits.as_str();
    while let Some(zeros) = rest.find('1') {
        // The number is as long as the zeros, and its one.
        let number = rest
            .get(zeros..2 * zeros + 1)
            .filter(|number| number.len() <= 64)?;
        numbers.push(i128::from(u64::from_str_radix(number, 2).ok()?));
        rest = &rest[2 * zeros + 1..];
    }
    if rest.len() >= 8 || numbers.len() % 2 != 0 {
        return None;
    }
    let mut next = i128::from(position.get()) - 1;
    let mut ranges = Vec::new();
    for pair in numbers.chunks_exact(2) {
        let first = next + pair[0];
        next = first + pair[1];
        ranges.push((first, next - 1));
    }
    // The position behind the last one is an offset too.
    (next <= i128::from(i64::MAX)).then_some(ranges)
}

fn evidence(position: Position, mut content: &[u8]) -> Option<Evidence> {
    let flags = *content.first()?;
    if flags > 5 {
        return None;
    }
    content = &content[1..];
    let instance = u32::try_from(number(&mut content)?).ok()?;
    let unclean_starts = u32::try_from(number(&mut content)?).ok()?;
    let mut base = i128::from(position.get());
    let offset = |base: i128, gap: u128| {
        let offset = i64::try_from(base + i128::try_from(gap).ok()?).ok()?;
        (offset < i64::MAX).then_some(Offset::new(offset))
    };
    let mut named = Vec::new();
    let count = match flags / 2 {
        2 => number(&mut content)?,
        alone => u128::from(alone),
    };
    if count > GROUP as u128 || (flags / 2 == 2 && count == 0) {
        return None;
    }
    for _ in 0..count {
        named.push(offset(base, number(&mut content)?)?);
        base = i128::from(named[named.len() - 1].get()) + 1;
    }
    base = i128::from(position.get());
    let named = match flags / 2 {
        0 => Named::Nobody,
        1 => Named::Alone(named[0]),
        _ => Named::Together(named),
    };
    let mut suspects = Vec::new();
    while !content.is_empty() {
        let at = offset(base, number(&mut content)?)?;
        let tried = number(&mut content)?;
        let crashes = u32::try_from(tried / 2).ok()?;
        suspects.push(Suspect {
            offset: at,
            crashes,
            survived: tried % 2 == 1,
        });
        base = i128::from(at.get()) + 1;
    }
    let running = (flags & 1 != 0).then_some(Instance::new(instance));
    (suspects.len() <= MAX_SUSPECTS).then_some(Evidence {
        running,
        named,
        unclean_starts,
        suspects,
    })
}

/// LEB128 of at most ten bytes and 64 bits.
fn number(bytes: &mut &[u8]) -> Option<u128> {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    if length > 10 {
        return None;
    }
    let (digits, rest) = bytes.split_at(length);
    *bytes = rest;
    let value = digits
        .iter()
        .rev()
        .fold(0_u128, |value, digit| value * 128 + u128::from(digit % 128));
    (value <= u128::from(u64::MAX)).then_some(value)
}

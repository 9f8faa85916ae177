//! The state of a topic on one certain broker. The client library queries any broker.

use std::io;

use super::{
    again::Refusal,
    request::{Answer, Request},
    topics::PartitionState,
};

const METADATA: i16 = 3;

/// The states of a topic's partitions, by partition, on the broker at `address`. Blocks.
///
/// # Errors
/// [`Refusal`] where the broker refuses, and errors of the connection.
pub(super) fn seen_by(address: &str, topic: &str) -> io::Result<Vec<PartitionState>> {
    let request = Request::new(METADATA, 1).int32(1).text(topic);
    let answer = request.exchange(address)?;
    states(&mut Answer::of(&answer))
}

fn states(answer: &mut Answer<'_>) -> io::Result<Vec<PartitionState>> {
    for _ in 0..answer.int32()? {
        let _id = answer.int32()?;
        answer.skip_text()?;
        let _port = answer.int32()?;
        answer.skip_text()?;
    }
    let _controller = answer.int32()?;
    if answer.int32()? != 1 {
        return Err(io::Error::other("the broker answered about other topics"));
    }
    refusal(answer.int16()?)?;
    answer.skip_text()?;
    let _is_internal = answer.int8()?;
    let mut states = Vec::new();
    for _ in 0..answer.int32()? {
        // A partition without a leader has an error, and -1 where the leader would be.
        let _error = answer.int16()?;
        let partition = answer.int32()?;
        let leader = answer.int32()?;
        states.push(PartitionState {
            partition,
            leader: (leader >= 0).then_some(leader),
            replicas: answer.int32s()?,
            in_sync: answer.int32s()?,
        });
    }
    states.sort_by_key(|state: &PartitionState| state.partition);
    Ok(states)
}

fn refusal(code: i16) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::other(Refusal(code))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, PartitionState, states};

    /// One broker of rack "r", the controller 1, and a topic "t" with this error.
    fn answer(error: i16) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b'h', 0, 0, 0, 9, 0, 1, b'r'];
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        bytes.extend(error.to_be_bytes());
        bytes.extend([0, 1, b't', 0]);
        bytes
    }

    #[test]
    fn leader_and_replicas_are_read_and_a_refusal_has_its_number() {
        let mut known = answer(0);
        known.extend(2_i32.to_be_bytes());
        for (partition, leader, replicas, in_sync) in
            [(1, 2, &[1, 2][..], &[2][..]), (0, -1, &[1], &[])]
        {
            known.extend(0_i16.to_be_bytes());
            known.extend(i32::to_be_bytes(partition));
            known.extend(i32::to_be_bytes(leader));
            for list in [replicas, in_sync] {
                known.extend((list.len() as i32).to_be_bytes());
                known.extend(list.iter().flat_map(|id| i32::to_be_bytes(*id)));
            }
        }
        let state = |partition, leader, replicas: &[i32], in_sync: &[i32]| PartitionState {
            partition,
            leader,
            replicas: replicas.to_vec(),
            in_sync: in_sync.to_vec(),
        };
        assert_eq!(
            states(&mut Answer::of(&known)).unwrap(),
            [state(0, None, &[1], &[]), state(1, Some(2), &[1, 2], &[2])]
        );
        let unknown = states(&mut Answer::of(&answer(3))).unwrap_err();
        assert!(unknown.to_string().ends_with("code 3"), "{unknown}");
        assert!(states(&mut Answer::of(&known[..50])).is_err(), "cut off");
    }
}

//! The partition that a key chooses, as Kafka's Java client and librdkafka's `murmur2_random` choose
//! it.

const M: u32 = 0x5bd1_e995;
const SEED: u32 = 0x9747_b28c;

/// The partition of this key in a topic with so many partitions.
pub(crate) fn partition_of_key(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key).cast_signed() & i32::MAX;
    positive % partitions.max(1)
}

fn murmur2(key: &[u8]) -> u32 {
    // Kafka's length is a number of 32 bits; a key is far from that.
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        let word = (word ^ (word >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    for (at, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of Kafka's Java client: `UtilsTest.testMurmur2`.
    #[test]
    fn keys_have_the_hashes_that_kafka_gives_them() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition_of_key(b"21", 4), (-973_932_308 & i32::MAX) % 4);
        assert_eq!(partition_of_key(b"21", 0), 0, "no topic has none");
    }
}

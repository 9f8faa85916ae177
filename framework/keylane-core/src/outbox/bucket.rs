//! Which bucket a key is in.

/// The number of a bucket, from 0 on.
pub type Bucket = u32;

/// The bucket of a key, among so many. All versions and all machines agree on it: it is stored.
///
/// # Examples
/// ```
/// use keylane_core::outbox::bucket_of;
///
/// assert_eq!(bucket_of(b"B-KL 42", 8), bucket_of(b"B-KL 42", 8));
/// assert!(bucket_of(b"B-KL 42", 8) < 8);
/// ```
pub fn bucket_of(key: &[u8], buckets: u32) -> Bucket {
    let bucket = hash(key, OFFSET_BASIS) % u64::from(buckets.max(1));
    // It is less than `buckets`.
    u32::try_from(bucket).unwrap_or_default()
}

/// The number of the lock that transactions take which enqueue tasks of one key in one table. Different
/// keys may have the same lock, which only makes one wait.
pub fn key_lock(table: &str, key: &[u8]) -> i64 {
    let of_table = hash(&[0xff], hash(table.as_bytes(), OFFSET_BASIS));
    hash(key, of_table).cast_signed()
}

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, with the bits mixed at the end: its low bits alone spread short keys badly.
fn hash(bytes: &[u8], basis: u64) -> u64 {
    let mut hash = basis;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_of_a_key_never_changes() {
        let buckets = |count| ["", "a", "B-KL 42", "ä"].map(|key| bucket_of(key.as_bytes(), count));
        assert_eq!(buckets(8), GOLDEN_8);
        assert_eq!(buckets(1), [0; 4]);
        assert_eq!(buckets(0), [0; 4], "without buckets there is no division");
    }
    const GOLDEN_8: [u32; 4] = [7, 1, 0, 1];

    #[test]
    fn keys_spread_over_the_buckets() {
        let mut counts = [0_u32; 8];
        for key in 0..8_000 {
            let bucket = bucket_of(format!("key-{key}").as_bytes(), 8);
            counts[usize::try_from(bucket).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_lock_is_of_a_table_and_a_key() {
        assert_ne!(key_lock("a", b"b"), key_lock("ab", b""));
        assert_ne!(key_lock("t", b"a"), key_lock("u", b"a"));
        assert_eq!(key_lock("t", b"a"), key_lock("t", b"a"));
    }
}

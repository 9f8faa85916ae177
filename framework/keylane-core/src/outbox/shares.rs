//! Which relay holds which bucket: as many each, whoever comes and goes.

use super::Bucket;

/// Who holds a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// No relay, or one whose lease has expired.
    None,
    /// This relay.
    This,
    /// Another relay, and its lease has not expired.
    Other,
}

/// What a relay does about its buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Buckets to take, in the order in which they are tried.
    pub take: Vec<Bucket>,
    /// Buckets to give up once what is being published has ended.
    pub release: Vec<Bucket>,
}

/// How many of the buckets the relay of this rank holds where each holds its share. The shares add up
/// to the number of the buckets.
pub fn share(buckets: usize, relays: usize, rank: usize) -> usize {
    let relays = relays.max(rank + 1);
    buckets / relays + usize::from(rank < buckets % relays)
}

/// What the relay of this rank, among so many that are alive, does now.
///
/// It takes free buckets up to its share and gives up what it has above it, never both. Where all see
/// the same, nothing moves any more once each has its share.
pub fn moves(buckets: &[(Bucket, Holder)], relays: usize, rank: usize) -> Moves {
    let of = |holder: Holder| {
        let of_it = buckets.iter().filter(move |(_, it)| *it == holder);
        of_it.map(|(bucket, _)| *bucket)
    };
    let (share, held) = (share(buckets.len(), relays, rank), of(Holder::This).count());
    if held > share {
        // The last ones: relays that look at the same time agree on what stays.
        let release = of(Holder::This).skip(share).collect();
        return Moves {
            take: Vec::new(),
            release,
        };
    }
    let mut free: Vec<Bucket> = of(Holder::None).collect();
    // Relays begin at different ones, so that they seldom want the same.
    let first = free.len() * rank / relays.max(rank + 1);
    free.rotate_left(first);
    free.truncate(share - held);
    Moves {
        take: free,
        release: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_relay_takes_all_and_gives_half_of_them_to_a_second_one() {
        let free: Vec<_> = (0..4).map(|bucket| (bucket, Holder::None)).collect();
        assert_eq!(moves(&free, 1, 0).take, [0, 1, 2, 3]);
        let mine: Vec<_> = (0..4).map(|bucket| (bucket, Holder::This)).collect();
        assert_eq!(moves(&mine, 2, 0).release, [2, 3]);
        let second = [
            (0, Holder::Other),
            (1, Holder::Other),
            (2, Holder::None),
            (3, Holder::None),
        ];
        assert_eq!(moves(&second, 2, 1).take, [3, 2]);
    }

    #[test]
    fn a_relay_that_is_not_counted_yet_divides_by_nothing() {
        assert_eq!(share(8, 0, 0), 8);
        assert_eq!(share(8, 0, 7), 1);
        assert_eq!(moves(&[], 0, 3), Moves::default());
    }

    /// The relays look one after the other, as their transactions do, and each acts at once.
    fn rounds(holders: &mut [Option<usize>], alive: &[usize]) -> usize {
        for round in 0..100 {
            let mut moved = false;
            for (rank, relay) in alive.iter().enumerate() {
                let seen: Vec<_> = (0..)
                    .zip(holders.iter())
                    .map(|(bucket, holder)| {
                        let holder = match holder {
                            Some(it) if it == relay => Holder::This,
                            Some(it) if alive.contains(it) => Holder::Other,
                            _ => Holder::None,
                        };
                        (bucket, holder)
                    })
                    .collect();
                let moves = moves(&seen, alive.len(), rank);
                assert!(moves.take.is_empty() || moves.release.is_empty());
                for bucket in moves.take {
                    let holder = &mut holders[usize::try_from(bucket).unwrap()];
                    assert!(holder.is_none_or(|it| !alive.contains(&it)), "it is free");
                    *holder = Some(*relay);
                    moved = true;
                }
                for bucket in moves.release {
                    holders[usize::try_from(bucket).unwrap()] = None;
                    moved = true;
                }
            }
            if !moved {
                return round;
            }
        }
        100
    }

    proptest! {
        #[test]
        fn shares_add_up(buckets in 0_usize..300, relays in 1_usize..40) {
            let sum: usize = (0..relays).map(|rank| share(buckets, relays, rank)).sum();
            prop_assert_eq!(sum, buckets);
        }

        #[test]
        fn whoever_comes_and_goes_each_has_its_share_soon(
            buckets in 1_usize..40,
            crowds in proptest::collection::vec(proptest::collection::btree_set(0_usize..8, 1..8), 1..6),
        ) {
            let mut holders = vec![None; buckets];
            for alive in crowds {
                let alive: Vec<usize> = alive.into_iter().collect();
                let took = rounds(&mut holders, &alive);
                prop_assert!(took <= 3, "{} rounds", took);
                for (rank, relay) in alive.iter().enumerate() {
                    let held = holders.iter().filter(|it| **it == Some(*relay)).count();
                    prop_assert_eq!(held, share(buckets, alive.len(), rank));
                }
            }
        }
    }
}

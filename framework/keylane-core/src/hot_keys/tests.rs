use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn second(second: u64) -> Moment {
    Moment::new(Duration::from_secs(second))
}

/// A good hash of a key's number (splitmix64).
fn hash(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

proptest! {
    #[test]
    fn bounds_hold_and_no_heavy_key_is_missing(credits in proptest::collection::vec((0_u64..300, 1_u64..1_000), 0..2_000)) {
        let mut sketch = KeySketch::default();
        let mut exact = BTreeMap::<u64, u64>::new();
        for &(key, weight) in &credits {
            sketch.credit(hash(key), weight, || key);
            *exact.entry(key).or_default() += weight;
        }
        let total: u64 = exact.values().sum();
        prop_assert_eq!(sketch.total(), total);
        let top = sketch.top(usize::MAX);
        prop_assert!(top.len() <= SKETCH_CAPACITY);
        prop_assert!(top.is_sorted_by(|a, b| a.at_least >= b.at_least));
        for key in &top {
            let weight = exact[key.name];
            prop_assert!(key.at_least <= weight && weight <= key.at_most, "{key:?}, exactly {weight}");
            prop_assert!(key.at_most - key.at_least <= total / SKETCH_CAPACITY as u64, "{key:?} of {total}");
        }
        // With this much a key is among the entries, and what is surely its own is enough to have a
        // name.
        let sure = total / SKETCH_CAPACITY as u64 + total / SMALLEST_SHARE + 1;
        for (key, weight) in exact.iter().filter(|(_, weight)| **weight > sure) {
            prop_assert!(top.iter().any(|other| other.name == key), "{key} with {weight} of {total} is missing");
        }
    }

    #[test]
    fn what_was_seen_half_lives_ago_counts_that_much_less(weights in proptest::collection::vec(1_u64..1_000_000, 1..64), halvings in 0_u32..70) {
        let mut sketch = KeySketch::default();
        sketch.tick(Moment::ORIGIN);
        for (key, &weight) in (0_u64..).zip(&weights) {
            sketch.credit(hash(key), weight, || key);
        }
        sketch.tick(Moment::ORIGIN + HALF_LIFE * halvings);
        let left: BTreeMap<u64, u64> = sketch.top(usize::MAX).iter().map(|key| (*key.name, key.at_most)).collect();
        for (key, &weight) in (0_u64..).zip(&weights) {
            let now = weight.checked_shr(halvings).unwrap_or(0);
            // What had no name had less than the smallest share.
            if let Some(&left) = left.get(&key) {
                prop_assert_eq!(left, now);
            }
            if halvings >= 20 {
                prop_assert!(!left.contains_key(&key));
            }
        }
        let total: u64 = weights.iter().map(|weight| weight.checked_shr(halvings).unwrap_or(0)).sum();
        prop_assert_eq!(sketch.total(), total);
    }

    #[test]
    fn no_weight_is_lost_between_samples(weights in proptest::collection::vec(0_u64..10_000, 0..5_000)) {
        let mut sketch = KeySketch::<()>::default();
        let credited: u64 = weights.iter().filter_map(|&weight| sketch.sample(weight)).sum();
        let all: u64 = weights.iter().sum();
        prop_assert!(credited <= all && all - credited <= sketch.sampler.mark, "{credited} of {all}");
    }
}

#[test]
fn names_are_made_for_keys_that_matter_and_not_for_each_of_a_million() {
    let mut sketch = KeySketch::default();
    let mut named = 0;
    for key in 0..100_000 {
        sketch.credit(hash(key), 1, || named += 1);
    }
    // While there are few, each of them has a share worth publishing.
    assert!(named < 2 * SMALLEST_SHARE, "{named} names");
    assert!(sketch.top(10).is_empty());
}

#[test]
fn a_quiet_stream_is_counted_record_by_record() {
    let mut sketch = KeySketch::<()>::default();
    for round in 0..20 {
        sketch.tick(second(round));
        for weight in 1..=1_000 {
            assert_eq!(sketch.sample(weight), Some(weight));
        }
    }
}

/// A busy stream: a hundred thousand records a second for ten seconds, in 100 turns each. Gives how
/// many were credited.
fn run(sketch: &mut KeySketch<u64>, record: impl Fn(u64) -> (u64, u64)) -> u64 {
    let mut credits = 0;
    for number in 0..1_000_000 {
        if number % 1_000 == 0 {
            sketch.tick(Moment::new(Duration::from_millis(number / 100)));
        }
        let (key, weight) = record(number);
        if let Some(weight) = sketch.sample(weight) {
            credits += 1;
            sketch.credit(hash(key), weight, || key);
        }
    }
    credits
}

fn share(sketch: &KeySketch<u64>, key: u64) -> f64 {
    let top = sketch.top(usize::MAX);
    let found = top.iter().find(|other| *other.name == key);
    found.map_or(0.0, |found| found.at_least as f64 / sketch.total() as f64)
}

#[test]
fn of_a_busy_stream_few_are_credited_and_the_shares_are_right() {
    let mut sketch = KeySketch::default();
    // Every third record is key 0's, every seventh of the others key 1's, and the others are all
    // different.
    let credits = run(&mut sketch, |number| match number {
        number if number % 3 == 0 => (0, 1),
        number if number % 7 == 0 => (1, 1),
        number => (number, 1),
    });
    assert!(credits < 20_000, "{credits} credits");
    assert!(
        (0.30..0.36).contains(&share(&sketch, 0)),
        "{}",
        share(&sketch, 0)
    );
    assert!(
        (0.06..0.12).contains(&share(&sketch, 1)),
        "{}",
        share(&sketch, 1)
    );
    assert_eq!(*sketch.top(1)[0].name, 0);
}

#[test]
fn a_stream_that_repeats_itself_is_not_counted_for_one_of_its_keys() {
    for period in [2, 10, 16, 50, 97, 128] {
        let mut sketch = KeySketch::default();
        run(&mut sketch, |number| (number % period, 1_000));
        // With many equal keys none is certainly heavy.
        let highest = sketch
            .top(1)
            .first()
            .map_or(0.0, |key| key.at_least as f64 / sketch.total() as f64);
        assert!(
            highest < 2.0 / period as f64,
            "{highest} of a stream of {period} equal keys"
        );
    }
}

#[test]
fn a_record_that_outweighs_thousands_is_counted_however_busy_the_stream() {
    let mut sketch = KeySketch::default();
    let slow = 1_000_000;
    run(&mut sketch, |number| {
        if number == 777_777 {
            (slow, 50_000_000_000)
        } else {
            (number % 100_000, 10_000)
        }
    });
    let top = sketch.top(1);
    assert_eq!(*top[0].name, slow);
    assert!(top[0].at_least >= 50_000_000_000);
}

#[test]
fn a_sketch_never_overflows() {
    let mut sketch = KeySketch::default();
    for key in 0..200 {
        let weight = sketch.sample(u64::MAX).unwrap_or(u64::MAX);
        sketch.credit(hash(key), weight, || key);
        sketch.tick(second(u64::MAX / 2_000_000_000));
    }
    assert_eq!(sketch.total(), u64::MAX);
}

//! What it costs to know the hot keys: of a record, and of one that is sampled.
//!
//! `cargo bench -p keylane-core --bench hot_keys`. In a partition each record goes through three
//! sketches.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use keylane_core::{KeySketch, Moment};

/// A good hash of a key's number, as the shell would give (splitmix64).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A stream of a million records a second, in turns of 256: what every record pays, sampled or not.
fn busy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot-keys/record-of-a-busy-stream");
    for (name, keys) in [("10-keys", 10), ("a-million-keys", 1_000_000)] {
        let mut sketch = KeySketch::<u64>::default();
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += 1;
                if number % 256 == 0 {
                    sketch.tick(Moment::new(Duration::from_micros(number)));
                }
                if let Some(weight) = sketch.sample(black_box(1)) {
                    let key = scatter(number) % keys;
                    sketch.credit(scatter(key), weight, || key);
                }
            });
        });
    }
    group.finish();
}

/// One that is sampled: of a key that is known, or of ever new ones.
fn credited(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot-keys/credit");
    for (name, keys) in [("known-key", 50), ("new-key", u64::MAX)] {
        let mut sketch = KeySketch::<u64>::default();
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += 1;
                let key = number % keys;
                sketch.credit(black_box(scatter(key)), 1, || key);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = hot_keys;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = busy, credited
}
criterion_main!(hot_keys);

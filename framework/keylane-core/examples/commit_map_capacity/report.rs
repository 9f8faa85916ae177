//! The patterns, and what the map makes of them.

use std::fmt::Write;

use keylane_core::{
    Evidence, Instance, LogId, MAX_METADATA_BYTES, Offset, Position, SettledRange, commit_map,
};

/// The defaults of `limits.pause_at_records` and `limits.settled_ahead`.
const PENDING: usize = 10_000;
const SETTLED_AHEAD: usize = 100_000;
/// What the sections have of [`MAX_METADATA_BYTES`], for the other encodings.
const ROOM_BYTES: usize = 2_985;
/// More than any of the encodings gets to.
const ENDLESS_RECORDS: usize = 1_500_000;
const ENDLESS_PENDING: usize = 13_000;
const POSITION: i64 = 1_000_000_000;

/// Which records are settled, one after the other from the position on; the first one never is.
pub(crate) struct Pattern {
    pub(crate) name: &'static str,
    settled: fn(&mut Random, usize) -> bool,
}

pub(crate) const PATTERNS: [Pattern; 8] = [
    Pattern {
        name: "every second record settled",
        settled: |_, at| at % 2 == 1,
    },
    Pattern {
        name: "each with a chance of 50 %",
        settled: |random, _| random.chance(0.5),
    },
    Pattern {
        name: "each with a chance of 90 %",
        settled: |random, _| random.chance(0.9),
    },
    Pattern {
        name: "each with a chance of 99 %",
        settled: |random, _| random.chance(0.99),
    },
    Pattern {
        name: "1,000 keys, one stuck",
        settled: |random, _| random.below(1_000) > 0,
    },
    Pattern {
        name: "1,000 keys by Zipf, the hottest stuck",
        settled: |random, _| random.zipf(1_000) != 1,
    },
    Pattern {
        name: "1,000 keys by Zipf, the tenth stuck",
        settled: |random, _| random.zipf(1_000) != 10,
    },
    Pattern {
        name: "every ninth record unsettled (the worst here)",
        settled: |_, at| !at.is_multiple_of(9),
    },
];

/// A window of records, and how much of it a commit holds.
pub(crate) struct Measured {
    pub(crate) settled: usize,
    pub(crate) named: usize,
    pub(crate) bytes: usize,
}

impl Pattern {
    /// The first records of it, up to a number of them, of pending ones, or of settled ones.
    fn window(&self, records: usize, pending: usize, settled: usize) -> Vec<bool> {
        let mut random = Random(1);
        let (mut left_pending, mut left_settled) = (pending, settled);
        let mut window = Vec::new();
        while window.len() < records && left_pending > 0 && left_settled > 0 {
            let is_settled = !window.is_empty() && (self.settled)(&mut random, window.len());
            *(if is_settled {
                &mut left_settled
            } else {
                &mut left_pending
            }) -= 1;
            window.push(is_settled);
        }
        window
    }

    /// The most that is ever held: fetching pauses there.
    pub(crate) fn full_window(&self) -> Measured {
        measure(&self.window(usize::MAX, PENDING, SETTLED_AHEAD))
    }
}

fn measure(window: &[bool]) -> Measured {
    let position = Position::new(POSITION);
    let evidence = Evidence {
        running: Some(Instance::new(0x9e37_79b9)),
        ..Evidence::default()
    };
    let log = LogId::of_topic(POSITION as u64, 1);
    let metadata =
        commit_map::encode_for(log, position, ranges(window), &evidence, MAX_METADATA_BYTES);
    let settled = commit_map::decode(position, &metadata.text)
        .map(|content| content.settled)
        .unwrap_or_default();
    let named = settled
        .ranges()
        .map(|range| (range.last.get() - range.first.get() + 1) as usize)
        .sum();
    Measured {
        settled: window.iter().filter(|settled| **settled).count(),
        named,
        bytes: metadata.text.len(),
    }
}

fn ranges(window: &[bool]) -> Vec<SettledRange> {
    let mut ranges: Vec<SettledRange> = Vec::new();
    for (at, _) in window.iter().enumerate().filter(|(_, settled)| **settled) {
        let offset = Offset::new(POSITION + at as i64);
        match ranges.last_mut() {
            Some(range) if range.last.next() == Position::before(offset) => range.last = offset,
            _ => ranges.push(SettledRange {
                first: offset,
                last: offset,
            }),
        }
    }
    ranges
}

/// How many settled offsets would fit as pairs of LEB128 numbers.
fn named_by_varints(window: &[bool]) -> usize {
    let varint = |number: i64| (64 - (number | 1).leading_zeros() as usize).div_ceil(7);
    let (mut bytes, mut named, mut cursor) = (0, 0, POSITION);
    for range in ranges(window) {
        let (first, last) = (range.first.get(), range.last.get());
        bytes += varint(first - cursor) + varint(last - first + 1);
        if bytes > ROOM_BYTES {
            break;
        }
        named += (last - first + 1) as usize;
        cursor = last + 1;
    }
    named
}

/// How many settled offsets would fit as one bit for each offset.
fn named_by_bitmap(window: &[bool]) -> usize {
    window
        .iter()
        .take(ROOM_BYTES * 8)
        .filter(|settled| **settled)
        .count()
}

/// Both tables.
pub(crate) fn report() -> String {
    let mut text = String::from(
        "| which records are settled | 1,000 records: bytes | full window: settled ahead | of these in the commit | bytes |\n\
         |---|---|---|---|---|\n",
    );
    for pattern in &PATTERNS {
        let small = measure(&pattern.window(1_000, usize::MAX, usize::MAX));
        let full = pattern.full_window();
        let percent = full.named * 100 / full.settled;
        let (name, settled, named) = (pattern.name, thousands(full.settled), thousands(full.named));
        let (bytes, small) = (thousands(full.bytes), thousands(small.bytes));
        line(
            &mut text,
            &[
                name,
                &small,
                &settled,
                &format!("{named} ({percent} %)"),
                &bytes,
            ],
        );
    }
    for concurrency in [32, 256] {
        let (mean, most) = running(concurrency);
        let name = format!("nothing stuck, {concurrency} running, any may end next");
        line(
            &mut text,
            &[
                &name,
                &format!("{mean} on average, {most} at most"),
                "",
                "",
                "",
            ],
        );
    }
    text.push_str(
        "\n| settled offsets that fit, in a window without end | as written | as pairs of LEB128 | as a bitmap |\n\
         |---|---|---|---|\n",
    );
    for pattern in &PATTERNS {
        let window = pattern.window(ENDLESS_RECORDS, ENDLESS_PENDING, usize::MAX);
        let fits = [
            measure(&window).named,
            named_by_varints(&window),
            named_by_bitmap(&window),
        ]
        .map(thousands);
        line(&mut text, &[pattern.name, &fits[0], &fits[1], &fits[2]]);
    }
    text
}

/// Bytes per commit where nothing is stuck: the mean and the largest of 1,000 moments.
pub(crate) fn running(concurrency: usize) -> (usize, usize) {
    let mut random = Random(1);
    let mut next = 0_usize;
    let mut running: Vec<usize> = Vec::new();
    let (mut sum, mut most, mut moments) = (0, 0, 0);
    for step in 0..1_100 * 16 * concurrency {
        while running.len() < concurrency {
            running.push(next);
            next += 1;
        }
        running.swap_remove(random.below(concurrency as u64) as usize);
        if step % (16 * concurrency) == 0 && step >= 100 * 16 * concurrency {
            let first = running.iter().copied().min().unwrap_or(next);
            let window: Vec<bool> = (first..next).map(|at| !running.contains(&at)).collect();
            let bytes = measure(&window).bytes;
            (sum, most, moments) = (sum + bytes, most.max(bytes), moments + 1);
        }
    }
    (sum / moments, most)
}

fn line(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes all");
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(String::from_utf8_lossy)
        .collect();
    groups.join(",")
}

/// splitmix64: the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn chance(&mut self, of_one: f64) -> bool {
        self.fraction() < of_one
    }

    /// A rank from 1 to `keys`, each with a chance in inverse proportion to itself.
    fn zipf(&mut self, keys: u32) -> u32 {
        // The sum of 1 / rank up to 1,000, which is how many keys all patterns have.
        debug_assert_eq!(keys, 1_000);
        let mut left = self.fraction() * 7.485_470_860_550_345;
        for rank in 1..=keys {
            left -= 1.0 / f64::from(rank);
            if left < 0.0 {
                return rank;
            }
        }
        keys
    }
}

//! Crash evidence: what a commit records for the next owner about the end of this one.
//!
//! A record that kills its process (abort, stack overflow, out of memory) leaves no error behind,
//! only the mark of an epoch that began and did not end. The evidence lives in the commit's
//! metadata, beside the settled-ahead map; what is done about it is decided in
//! `partition/caution.rs`.

use crate::offset::{Offset, Position};
use crate::varint;

/// A record that was named alone at this many crashes is poison. At each of them nothing else ran
/// in its process.
pub const POISON_CRASHES: u32 = 2;
/// The same for a record that has also run alone without ending its process: one that takes long,
/// or fails again and again, is what runs most of the time, and so what is named when the process
/// is killed from outside. Not out of the question either: a record may fail at first and kill
/// later.
pub const POISON_CRASHES_OF_SURVIVED: u32 = 4;
/// The most records that a mark names together. Fewer would make care dear where processes were
/// killed from outside: a mark is a commit that is waited for. Each costs a byte or two of the
/// metadata, and a trial after a crash.
pub const GROUP: usize = 64;
/// The most records that evidence remembers; each takes a few bytes of the metadata. No more are
/// named than there is room for, so that a crash drives out no suspicion from before.
pub const MAX_SUSPECTS: usize = 2 * GROUP;

/// One running process, identified by a random number.
///
/// A member that was fenced and gets its partition back finds its own mark: there was no crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instance(u32);

impl Instance {
    /// The process of this number, drawn at random when it starts.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
}

/// A record that was named when a process ended without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its offset.
    pub offset: Offset,
    /// At how many such ends it was named alone; 0 where it was only named together with others.
    pub crashes: u32,
    /// Whether an attempt has run alone since it was first named, and its process has lived on.
    pub survived: bool,
}

impl Suspect {
    /// Whether it must no longer run.
    pub fn is_poison(&self) -> bool {
        self.crashes
            >= if self.survived {
                POISON_CRASHES_OF_SURVIVED
            } else {
                POISON_CRASHES
            }
    }
}

/// The records that a mark names: if the process ends without a word, one of them may be why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// None: anything may run.
    #[default]
    Nobody,
    /// Nothing but this one runs in the partition.
    Alone(Offset),
    /// Nothing but these run, [`GROUP`] at most. Ascending, each once, and not empty.
    Together(Vec<Offset>),
}

impl Named {
    /// All of them, ascending.
    pub fn offsets(&self) -> &[Offset] {
        match self {
            Self::Nobody => &[],
            Self::Alone(offset) => std::slice::from_ref(offset),
            Self::Together(offsets) => offsets,
        }
    }

    pub(crate) fn contains(&self, offset: Offset) -> bool {
        self.offsets().binary_search(&offset).is_ok()
    }
}

/// The crash evidence of one partition, as it travels in commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The mark: this process had begun to run records of the partition, and has not given it up in
    /// order.
    pub running: Option<Instance>,
    /// What may be running at present, where that is known.
    pub named: Named,
    /// Starts in a row that found a mark, without progress between them.
    pub unclean_starts: u32,
    /// Ascending by offset, each once.
    pub suspects: Vec<Suspect>,
}

impl Evidence {
    /// Whether there is no evidence.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a new epoch in process `here` makes of it: a mark of another process means that it
    /// ended uncleanly, and the records it had named are suspected. `true` where that is so.
    ///
    /// The result is committed with the first mark. Where the process ends before that, it has run
    /// nothing here, and the next one concludes the same from the same commit.
    ///
    /// A crash counts for a record that was named alone. Of several that were named together any
    /// can be the one, or none where the process was killed from outside: however often that
    /// happens, nothing is concluded but that they have to run alone.
    ///
    /// The mark of this very process means that the partition was lost and came back: nothing has
    /// crashed.
    #[must_use]
    pub fn at_start(mut self, here: Instance) -> (Self, bool) {
        let named = std::mem::take(&mut self.named);
        let unclean = self.running.take().is_some_and(|running| running != here);
        if unclean {
            self.unclean_starts = self.unclean_starts.saturating_add(1);
            let crashes = u32::from(matches!(named, Named::Alone(_)));
            named
                .offsets()
                .iter()
                .for_each(|&offset| self.suspect(offset, crashes));
        }
        (self, unclean)
    }

    /// The same after an orderly end.
    #[must_use]
    pub fn ended(self) -> Self {
        Self {
            running: None,
            named: Named::Nobody,
            ..self
        }
    }

    /// The number of crashes at which `offset` was named alone.
    pub fn crashes(&self, offset: Offset) -> u32 {
        self.find(offset).map_or(0, |suspect| suspect.crashes)
    }

    /// Whether `offset` was named at a crash, alone or not.
    pub fn is_suspected(&self, offset: Offset) -> bool {
        self.find(offset).is_some()
    }

    /// Whether `offset` was named at too many crashes to run once more.
    pub fn is_poison(&self, offset: Offset) -> bool {
        self.find(offset).is_some_and(Suspect::is_poison)
    }

    /// How many more records can be suspected.
    pub(crate) fn room(&self) -> usize {
        MAX_SUSPECTS.saturating_sub(self.suspects.len())
    }

    fn find(&self, offset: Offset) -> Option<&Suspect> {
        self.place(offset).ok().map(|place| &self.suspects[place])
    }

    fn place(&self, offset: Offset) -> Result<usize, usize> {
        self.suspects
            .binary_search_by_key(&offset, |suspect| suspect.offset)
    }

    /// Counts this many more crashes.
    fn suspect(&mut self, offset: Offset, crashes: u32) {
        match self.place(offset) {
            Ok(place) => {
                self.suspects[place].crashes = self.suspects[place].crashes.saturating_add(crashes)
            }
            Err(_) => {
                if self.room() == 0 && !self.make_room(crashes) {
                    return;
                }
                let place = self
                    .suspects
                    .partition_point(|suspect| suspect.offset < offset);
                self.suspects.insert(
                    place,
                    Suspect {
                        offset,
                        crashes,
                        survived: false,
                    },
                );
            }
        }
    }

    /// A suspicion can come again; a verdict that is forgotten kills again.
    fn make_room(&mut self, crashes: u32) -> bool {
        let undecided = self
            .suspects
            .iter()
            .enumerate()
            .filter(|(_, suspect)| crashes > 0 && !suspect.is_poison());
        let weakest = undecided
            .min_by_key(|(_, suspect)| suspect.crashes)
            .map(|(place, _)| place);
        weakest.map(|place| self.suspects.remove(place)).is_some()
    }

    /// Forgets the suspicions that were no verdict yet.
    pub(crate) fn acquit(&mut self) {
        self.suspects.retain(Suspect::is_poison);
    }

    /// An attempt at `offset` has run alone, and the process lives. `true` where that is news of a
    /// suspect.
    pub(crate) fn survived(&mut self, offset: Offset) -> bool {
        let found = self
            .place(offset)
            .ok()
            .map(|place| &mut self.suspects[place]);
        found.is_some_and(|suspect| !std::mem::replace(&mut suspect.survived, true))
    }

    /// A record is settled: its evidence is dropped.
    pub(crate) fn settled(&mut self, offset: Offset) {
        self.suspects.retain(|suspect| suspect.offset != offset);
    }

    /// Writes it as the content of a section: flags, process, starts, what is named, then the
    /// suspects. Offsets count from `position`, each from the one before it; what lies below the
    /// position is settled and left out.
    pub(crate) fn write(&self, position: Position, bytes: &mut Vec<u8>) {
        let named = self
            .named
            .offsets()
            .iter()
            .copied()
            .filter(|&offset| position.covers(offset));
        let count = named.clone().count();
        let naming = match self.named {
            _ if count == 0 => 0,
            Named::Alone(_) => ALONE,
            _ => TOGETHER,
        };
        bytes.push((u8::from(self.running.is_some()) * RUNNING) | naming);
        varint::write(
            bytes,
            u64::from(self.running.map_or(0, |instance| instance.0)),
        );
        varint::write(bytes, u64::from(self.unclean_starts));
        if naming == TOGETHER {
            varint::write(bytes, count as u64);
        }
        let mut cursor = position;
        for offset in named {
            varint::write(bytes, above(cursor, offset));
            cursor = offset.next();
        }
        let mut cursor = position;
        for suspect in self
            .suspects
            .iter()
            .filter(|suspect| position.covers(suspect.offset))
        {
            varint::write(bytes, above(cursor, suspect.offset));
            varint::write(
                bytes,
                u64::from(suspect.crashes) << 1 | u64::from(suspect.survived),
            );
            cursor = suspect.offset.next();
        }
    }

    /// `None` where the content is not what [`write`](Self::write) writes.
    pub(crate) fn read(position: Position, mut content: &[u8]) -> Option<Self> {
        let (&flags, rest) = content.split_first()?;
        content = rest;
        if flags & !(RUNNING | ALONE | TOGETHER) != 0
            || flags & (ALONE | TOGETHER) == ALONE | TOGETHER
        {
            return None;
        }
        let instance = u32::try_from(varint::read(&mut content)?).ok()?;
        let unclean_starts = u32::try_from(varint::read(&mut content)?).ok()?;
        let named = match flags & (ALONE | TOGETHER) {
            0 => Named::Nobody,
            ALONE => Named::Alone(offset_above(position, varint::read(&mut content)?)?),
            _ => Named::Together(read_together(position, &mut content)?),
        };
        let mut suspects = Vec::new();
        let mut cursor = position;
        while !content.is_empty() {
            let offset = offset_above(cursor, varint::read(&mut content)?)?;
            let tried = varint::read(&mut content)?;
            let crashes = u32::try_from(tried >> 1).ok()?;
            if suspects.len() == MAX_SUSPECTS {
                return None;
            }
            cursor = offset.next();
            suspects.push(Suspect {
                offset,
                crashes,
                survived: tried & 1 == 1,
            });
        }
        let running = (flags & RUNNING != 0).then_some(Instance(instance));
        Some(Self {
            running,
            named,
            unclean_starts,
            suspects,
        })
    }
}

const RUNNING: u8 = 1;
const ALONE: u8 = 2;
const TOGETHER: u8 = 4;

fn read_together(position: Position, content: &mut &[u8]) -> Option<Vec<Offset>> {
    let count = varint::read(content)?;
    if !(1..=GROUP as u64).contains(&count) {
        return None;
    }
    let mut cursor = position;
    let mut offsets = Vec::new();
    for _ in 0..count {
        let offset = offset_above(cursor, varint::read(content)?)?;
        cursor = offset.next();
        offsets.push(offset);
    }
    Some(offsets)
}

/// How far an offset that `position` covers lies above it.
fn above(position: Position, offset: Offset) -> u64 {
    u64::try_from(i128::from(offset.get()) - i128::from(position.get())).unwrap_or(0)
}

/// `None` beyond the range of offsets, the last one left out: nothing could follow it.
fn offset_above(position: Position, gap: u64) -> Option<Offset> {
    position
        .get()
        .checked_add_unsigned(gap)
        .filter(|&offset| offset < i64::MAX)
        .map(Offset::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Instance = Instance::new(1);
    const THERE: Instance = Instance::new(2);

    fn running(there: Instance, named: Named) -> Evidence {
        Evidence {
            running: Some(there),
            named,
            ..Evidence::default()
        }
    }

    fn alone(offset: i64) -> Named {
        Named::Alone(Offset::new(offset))
    }

    fn together(offsets: &[i64]) -> Named {
        Named::Together(offsets.iter().copied().map(Offset::new).collect())
    }

    #[test]
    fn the_mark_of_another_process_counts_and_suspects_what_it_named() {
        let (first, unclean) = running(THERE, alone(7)).at_start(HERE);
        assert!(unclean);
        assert_eq!(
            (
                first.unclean_starts,
                first.crashes(Offset::new(7)),
                first.running
            ),
            (1, 1, None)
        );
        let again = Evidence {
            running: Some(THERE),
            named: alone(7),
            ..first
        };
        let (second, _) = again.at_start(HERE);
        assert_eq!(
            (second.unclean_starts, second.crashes(Offset::new(7))),
            (2, 2)
        );
    }

    #[test]
    fn records_that_are_named_together_are_suspected_and_never_condemned() {
        let (mut evidence, _) = running(THERE, together(&[7, 9])).at_start(HERE);
        let crashes = |evidence: &Evidence| {
            [7, 8, 9, 10]
                .map(Offset::new)
                .map(|at| evidence.is_suspected(at).then(|| evidence.crashes(at)))
        };
        assert_eq!(crashes(&evidence), [Some(0), None, Some(0), None]);
        for named in [
            together(&[7, 8]),
            together(&[8]),
            alone(8),
            together(&[7, 8, 9]),
        ] {
            (evidence, _) = Evidence {
                running: Some(THERE),
                named,
                ..evidence
            }
            .at_start(HERE);
        }
        assert_eq!(crashes(&evidence), [Some(0), Some(1), Some(0), None]);
        assert_eq!(evidence.unclean_starts, 5);
        (evidence, _) = Evidence {
            running: Some(THERE),
            named: alone(8),
            ..evidence
        }
        .at_start(HERE);
        assert_eq!(crashes(&evidence), [Some(0), Some(2), Some(0), None]);
    }

    #[test]
    fn an_orderly_end_and_a_mark_of_ones_own_count_nothing() {
        let evidence = running(THERE, alone(7));
        assert_eq!(
            evidence.clone().ended().at_start(HERE),
            (Evidence::default(), false)
        );
        assert_eq!(evidence.at_start(THERE), (Evidence::default(), false));
    }

    #[test]
    fn a_start_is_counted_once_where_nothing_has_run_since() {
        let (first, _) = running(THERE, alone(7)).at_start(HERE);
        assert_eq!(first.clone().at_start(THERE), (first, false));
    }

    #[test]
    fn verdicts_are_kept_where_suspicions_have_to_make_room() {
        let mut evidence = Evidence::default();
        for offset in 0..MAX_SUSPECTS as i64 {
            evidence.suspect(Offset::new(offset), 2);
        }
        let late = Offset::new(1_000);
        evidence.suspect(late, 1);
        assert_eq!(
            (evidence.suspects.len(), evidence.is_suspected(late)),
            (MAX_SUSPECTS, false)
        );
        (evidence.suspects[2].crashes, evidence.suspects[3].crashes) = (1, 0);
        evidence.suspect(late, 0);
        assert!(!evidence.is_suspected(late), "they are as good");
        evidence.suspect(late, 1);
        assert_eq!(
            (
                evidence.is_suspected(Offset::new(3)),
                evidence.crashes(late)
            ),
            (false, 1),
            "the weakest"
        );
        evidence.suspect(Offset::new(1_001), 1);
        assert!(!evidence.is_suspected(Offset::new(2)) && evidence.is_suspected(late));
        evidence.acquit();
        assert_eq!(evidence.suspects.len(), MAX_SUSPECTS - 2);
    }

    #[test]
    fn one_that_is_not_condemned_makes_room_although_it_was_named_more_often() {
        let mut evidence = Evidence::default();
        for offset in 0..MAX_SUSPECTS as i64 {
            evidence.suspect(Offset::new(offset), POISON_CRASHES);
        }
        (evidence.suspects[7].survived, evidence.suspects[7].crashes) =
            (true, POISON_CRASHES_OF_SURVIVED - 1);
        evidence.suspect(Offset::new(1_000), 1);
        assert!(
            evidence.is_suspected(Offset::new(1_000)) && !evidence.is_suspected(Offset::new(7))
        );
    }
}

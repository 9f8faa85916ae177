//! What a commit tells the next owner about how this one ended: crash evidence.
//!
//! A record that kills its process (abort, stack overflow, out of memory) leaves no error behind, only the mark of an
//! epoch that began and did not end. The evidence lives in the commit's metadata, beside the settled-ahead map; what is
//! done about it is decided in `partition/caution.rs`.

use crate::offset::{Offset, Position};
use crate::varint;

/// From so many unclean starts without progress on, records run one at a time.
pub const ISOLATION_STARTS: u32 = 2;
/// A record that was named at so many crashes is poison. The last of them was in a quiet turn, where nothing else ran in
/// its process.
pub const POISON_CRASHES: u32 = 2;
/// The most records that evidence remembers; each takes a few bytes of the metadata.
pub const MAX_SUSPECTS: usize = 64;

/// One running process, told apart from its successors by a random number.
///
/// A member that was fenced and gets its partition back finds its own mark, and knows that nobody has crashed.
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
    /// At how many such ends.
    pub crashes: u32,
}

/// The crash evidence of one partition, as it travels in commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The mark: this process had begun to run records of the partition, and has not given it up in order.
    pub running: Option<Instance>,
    /// The record that may be running alone at present.
    pub named: Option<Offset>,
    /// Starts in a row that found a mark, without progress between them.
    pub unclean_starts: u32,
    /// Ascending by offset, each once.
    pub suspects: Vec<Suspect>,
}

impl Evidence {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a new epoch in process `here` makes of it: a mark of another process means that it ended uncleanly, and the
    /// record it had named is suspected once more. `true` where that is so; the result then has to be on the broker before
    /// anything starts, or the next start would tell of the same crash again.
    ///
    /// The mark of this very process means that the partition was lost and came back: nothing has crashed.
    #[must_use]
    pub fn at_start(mut self, here: Instance) -> (Self, bool) {
        let named = self.named.take();
        let unclean = self.running.take().is_some_and(|running| running != here);
        if unclean {
            self.unclean_starts = self.unclean_starts.saturating_add(1);
            if let Some(offset) = named {
                self.suspect(offset);
            }
        }
        (self, unclean)
    }

    /// The same after an orderly end.
    #[must_use]
    pub fn ended(self) -> Self {
        Self { running: None, named: None, ..self }
    }

    /// At how many crashes `offset` was named.
    pub fn crashes(&self, offset: Offset) -> u32 {
        let found = self.suspects.binary_search_by_key(&offset, |suspect| suspect.offset);
        found.map_or(0, |place| self.suspects[place].crashes)
    }

    fn suspect(&mut self, offset: Offset) {
        match self.suspects.binary_search_by_key(&offset, |suspect| suspect.offset) {
            Ok(place) => self.suspects[place].crashes = self.suspects[place].crashes.saturating_add(1),
            Err(_) => {
                if self.suspects.len() >= MAX_SUSPECTS {
                    // A suspicion can come again; a verdict that is forgotten kills again.
                    let Some(weak) = self.suspects.iter().position(|suspect| suspect.crashes < POISON_CRASHES) else {
                        return;
                    };
                    self.suspects.remove(weak);
                }
                let place = self.suspects.partition_point(|suspect| suspect.offset < offset);
                self.suspects.insert(place, Suspect { offset, crashes: 1 });
            }
        }
    }

    /// Forgets the suspicions that were no verdict yet.
    pub(crate) fn acquit(&mut self) {
        self.suspects.retain(|suspect| suspect.crashes >= POISON_CRASHES);
    }

    /// A record is settled: nothing more to say about it.
    pub(crate) fn settled(&mut self, offset: Offset) {
        self.suspects.retain(|suspect| suspect.offset != offset);
    }

    /// Writes it as the content of a section: flags, process, starts, the named offset, then the suspects. Offsets count
    /// from `position`; what lies below it is settled and left out.
    pub(crate) fn write(&self, position: Position, bytes: &mut Vec<u8>) {
        let named = self.named.filter(|&offset| position.covers(offset));
        bytes.push((u8::from(self.running.is_some()) * RUNNING) | (u8::from(named.is_some()) * NAMED));
        varint::write(bytes, u64::from(self.running.map_or(0, |instance| instance.0)));
        varint::write(bytes, u64::from(self.unclean_starts));
        if let Some(offset) = named {
            varint::write(bytes, above(position, offset));
        }
        let mut cursor = position;
        for suspect in self.suspects.iter().filter(|suspect| position.covers(suspect.offset)) {
            varint::write(bytes, above(cursor, suspect.offset));
            varint::write(bytes, u64::from(suspect.crashes));
            cursor = suspect.offset.next();
        }
    }

    /// `None` where the content is not what [`write`](Self::write) writes.
    pub(crate) fn read(position: Position, mut content: &[u8]) -> Option<Self> {
        let (&flags, rest) = content.split_first()?;
        content = rest;
        if flags & !(RUNNING | NAMED) != 0 {
            return None;
        }
        let instance = u32::try_from(varint::read(&mut content)?).ok()?;
        let unclean_starts = u32::try_from(varint::read(&mut content)?).ok()?;
        let named = if flags & NAMED == 0 { None } else { Some(offset_above(position, varint::read(&mut content)?)?) };
        let mut suspects = Vec::new();
        let mut cursor = position;
        while !content.is_empty() {
            let offset = offset_above(cursor, varint::read(&mut content)?)?;
            let crashes = u32::try_from(varint::read(&mut content)?).ok()?;
            if suspects.len() == MAX_SUSPECTS || crashes == 0 {
                return None;
            }
            cursor = offset.next();
            suspects.push(Suspect { offset, crashes });
        }
        let running = (flags & RUNNING != 0).then_some(Instance(instance));
        Some(Self { running, named, unclean_starts, suspects })
    }
}

const RUNNING: u8 = 1;
const NAMED: u8 = 2;

/// How far an offset that `position` covers lies above it.
fn above(position: Position, offset: Offset) -> u64 {
    u64::try_from(i128::from(offset.get()) - i128::from(position.get())).unwrap_or(0)
}

/// `None` beyond the range of offsets, the last one left out: nothing could follow it.
fn offset_above(position: Position, gap: u64) -> Option<Offset> {
    position.get().checked_add_unsigned(gap).filter(|&offset| offset < i64::MAX).map(Offset::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Instance = Instance::new(1);
    const THERE: Instance = Instance::new(2);

    fn running(there: Instance, named: Option<i64>) -> Evidence {
        Evidence { running: Some(there), named: named.map(Offset::new), ..Evidence::default() }
    }

    #[test]
    fn the_mark_of_another_process_counts_and_suspects_what_it_named() {
        let (first, unclean) = running(THERE, Some(7)).at_start(HERE);
        assert!(unclean);
        assert_eq!((first.unclean_starts, first.crashes(Offset::new(7)), first.running), (1, 1, None));
        let again = Evidence { running: Some(THERE), named: Some(Offset::new(7)), ..first };
        let (second, _) = again.at_start(HERE);
        assert_eq!((second.unclean_starts, second.crashes(Offset::new(7))), (2, 2));
    }

    #[test]
    fn an_orderly_end_and_a_mark_of_ones_own_count_nothing() {
        let evidence = running(THERE, Some(7));
        assert_eq!(evidence.clone().ended().at_start(HERE), (Evidence::default(), false));
        assert_eq!(evidence.at_start(THERE), (Evidence::default(), false));
    }

    #[test]
    fn a_start_is_counted_once_where_nothing_has_run_since() {
        let (first, _) = running(THERE, Some(7)).at_start(HERE);
        assert_eq!(first.clone().at_start(THERE), (first, false));
    }

    #[test]
    fn verdicts_are_kept_where_suspicions_have_to_make_room() {
        let mut evidence = Evidence::default();
        for offset in 0..MAX_SUSPECTS as i64 {
            evidence.suspect(Offset::new(offset));
            evidence.suspect(Offset::new(offset));
        }
        evidence.suspect(Offset::new(1_000));
        assert_eq!((evidence.suspects.len(), evidence.crashes(Offset::new(1_000))), (MAX_SUSPECTS, 0));
        evidence.suspects[3].crashes = 1;
        evidence.suspect(Offset::new(1_000));
        assert_eq!((evidence.crashes(Offset::new(3)), evidence.crashes(Offset::new(1_000))), (0, 1));
        evidence.acquit();
        assert_eq!(evidence.suspects.len(), MAX_SUSPECTS - 1);
    }
}

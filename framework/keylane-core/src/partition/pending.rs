//! The records that are delivered and unsettled: a slab with counts by state.
//!
//! There may be a hundred thousand of them, so each entry is kept small, and the slab grows by
//! pages: a vector that doubles would be half empty.

mod record;
mod tries;

use super::Ticket;
use crate::ledger::Sequence;

pub(super) use record::{PendingRecord, State};
pub(super) use tries::{Held, Waits};

pub(super) struct Pending<R> {
    /// All of [`PAGE`] slots but the last, which grows.
    pages: Vec<Vec<Slot<R>>>,
    free: Vec<u32>,
    bytes: usize,
    counts: [usize; State::COUNT],
    held: usize,
}

/// Slots in a page: a power of two.
const PAGE: usize = 256;

/// Its serial number outlives the record.
enum Slot<R> {
    Vacant { serial: u32 },
    Taken(PendingRecord<R>),
}

impl<R> Default for Pending<R> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            counts: [0; State::COUNT],
            held: 0,
        }
    }
}

/// A slot that is not vacant is named by exactly one of: a lane, the timers (`NotDue`). So slots
/// are never read after their removal.
const OCCUPIED: &str = "a slot in use holds a record";

impl<R> Pending<R> {
    pub(super) fn insert(&mut self, mut pending: PendingRecord<R>) -> u32 {
        self.bytes = self.bytes.saturating_add(pending.bytes());
        self.counts[pending.state as usize] += 1;
        if let Some(slot) = self.free.pop() {
            let vacant = self.slot_mut(slot);
            pending.serial = vacant.serial();
            *vacant = Slot::Taken(pending);
            return slot;
        }
        let full = self.pages.last().is_none_or(|page| page.len() == PAGE);
        if full {
            // The first page grows with what a quiet partition needs; those that follow are filled
            // for sure.
            self.pages.push(if self.pages.is_empty() {
                Vec::new()
            } else {
                Vec::with_capacity(PAGE)
            });
        }
        let before = (self.pages.len() - 1) * PAGE;
        let page = self
            .pages
            .last_mut()
            .expect("a page was pushed if there was none");
        page.push(Slot::Taken(pending));
        (before + page.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, slot: u32) -> PendingRecord<R> {
        let place = self.slot_mut(slot);
        let serial = place.serial();
        let Slot::Taken(pending) = std::mem::replace(place, Slot::Vacant { serial }) else {
            panic!("{OCCUPIED}")
        };
        self.bytes = self.bytes.saturating_sub(pending.bytes());
        self.counts[pending.state as usize] -= 1;
        self.held -= usize::from(pending.held() != Held::No);
        self.free.push(slot);
        pending
    }

    pub(super) fn get(&self, slot: u32) -> &PendingRecord<R> {
        self.slot(slot).pending().expect(OCCUPIED)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut PendingRecord<R> {
        self.slot_mut(slot).pending_mut().expect(OCCUPIED)
    }

    pub(super) fn set_state(&mut self, slot: u32, state: State) {
        let pending = self.get_mut(slot);
        let before = std::mem::replace(&mut pending.state, state);
        self.counts[before as usize] -= 1;
        self.counts[state as usize] += 1;
    }

    pub(super) fn set_held(&mut self, slot: u32, held: Held) {
        let pending = self.get_mut(slot);
        let before = pending.held();
        if before == held {
            return;
        }
        pending.hold(held);
        self.held += usize::from(held != Held::No);
        self.held -= usize::from(before != Held::No);
    }

    /// How many records are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Every pending record with its slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &PendingRecord<R>)> {
        (0..)
            .zip(self.pages.iter().flatten())
            .filter_map(|(number, slot)| Some((number, slot.pending()?)))
    }

    /// The same, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut PendingRecord<R>)> {
        (0..)
            .zip(self.pages.iter_mut().flatten())
            .filter_map(|(number, slot)| Some((number, slot.pending_mut()?)))
    }

    /// Whether the ticket is the slot's latest and its record in the state it was issued for. The
    /// caller compares epochs.
    pub(super) fn is_current(&self, ticket: Ticket, state: State) -> bool {
        let (page, index) = place(ticket.slot);
        let slot = self.pages.get(page).and_then(|page| page.get(index));
        slot.and_then(Slot::pending)
            .is_some_and(|pending| pending.serial() == ticket.serial && pending.state == state)
    }

    /// The ledger no longer stands for this record.
    pub(super) fn forget(&mut self, slot: u32) {
        self.get_mut(slot).sequence = Sequence::FORGOTTEN;
    }

    pub(super) fn count(&self, state: State) -> usize {
        self.counts[state as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn slot(&self, slot: u32) -> &Slot<R> {
        let (page, index) = place(slot);
        &self.pages[page][index]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot<R> {
        let (page, index) = place(slot);
        &mut self.pages[page][index]
    }
}

/// Page and index of a slot.
const fn place(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE, slot as usize % PAGE)
}

impl<R> Slot<R> {
    fn serial(&self) -> u32 {
        match self {
            Self::Vacant { serial } => *serial,
            Self::Taken(pending) => pending.serial(),
        }
    }

    fn pending(&self) -> Option<&PendingRecord<R>> {
        match self {
            Self::Vacant { .. } => None,
            Self::Taken(pending) => Some(pending),
        }
    }

    fn pending_mut(&mut self) -> Option<&mut PendingRecord<R>> {
        match self {
            Self::Vacant { .. } => None,
            Self::Taken(pending) => Some(pending),
        }
    }
}

/// What a pending record takes here beside the record itself.
#[cfg(test)]
pub(super) const SLOT_BYTES: usize = size_of::<Slot<()>>();
#[cfg(test)]
pub(super) use record::RARE_BYTES;

//! What the records that arrive say about the log: whether it went back, or begins higher than
//! expected.

use std::time::Instant;

use keylane_core::member::Arrival;
use keylane_core::{Beginning, LogRange, Offset as RecordOffset, PassedOver, Position, Reset};

use super::assigned::Assigned;
use crate::kafka::{Cached, CachedRange};

impl Assigned {
    /// The offset that is read next, as far as it is known.
    pub(crate) fn expected(&self) -> Option<i64> {
        self.log.expected().map(Position::get)
    }

    /// Takes in a record's place in the log. `false` where the record is to be left out.
    pub(crate) fn takes(&mut self, cached: Cached<'_>, offset: i64, print: u64) -> bool {
        let confirmed = self.start_question.is_asked();
        let first = || {
            let range = cached.range(&self.topic_c, self.partition);
            range.first.map(Position::new)
        };
        let offset = RecordOffset::new(offset);
        match self.log.record(offset, print, confirmed, first) {
            Arrival::Next => true,
            arrival => self.is_taken(arrival, offset.get()),
        }
    }

    #[cold]
    fn is_taken(&mut self, arrival: Arrival, offset: i64) -> bool {
        match arrival {
            Arrival::Next => true,
            Arrival::LeftOut => false,
            Arrival::PassedOver(passed_over) => {
                self.report_passed_over(passed_over);
                true
            }
            Arrival::CutBelowStart { expected } => {
                self.report_cut(expected.get(), offset);
                true
            }
            Arrival::WentBack => {
                self.drop_batch();
                false
            }
            Arrival::Search {
                beginning,
                expected,
                went_back,
            } => {
                if went_back {
                    self.report_cut_with_latest(expected.get(), offset);
                }
                self.search(beginning);
                false
            }
        }
    }

    /// Checks whether the log begins above the next record although no record shows it: the log may
    /// be empty.
    pub(crate) fn look_for_emptied_log(&mut self, range: &CachedRange) {
        let is_reading = !self.fetch_paused
            && self.beginning.is_none()
            && !self.log.is_recreated()
            && !self.revoking;
        // A new epoch would drop what is pending.
        let is_idle = is_reading
            && self.log.reset() != Reset::Error
            && self.pending_records() == 0
            && self.knows_log_end(range.end);
        let expected = self.expected().filter(|_| is_idle).map(Position::new);
        let now = self.now();
        if let Some(expected) = self
            .emptied
            .look(expected, range.first.map(Position::new), now)
        {
            self.search(Beginning::passed_over(self.log.reset(), expected));
        }
    }

    fn search(&mut self, beginning: Beginning) {
        tracing::info!(
            topic = %self.topic, partition = self.partition, expected = self.expected(),
            "the next position is outside of the log; looking for where to read on"
        );
        self.beginning = Some(beginning);
        self.searching_since = Instant::now();
    }

    /// Where reading will begin, of a partition that nothing was committed of and nothing read yet.
    pub(crate) fn unread_from(&self) -> Option<Position> {
        let is_at_its_first = self.log.next().is_none()
            && self.beginning.is_none()
            && self.log.reset() == Reset::Earliest;
        self.queried
            .filter(|_| is_at_its_first)
            .map(|range| range.first)
    }

    /// Takes the log's range.
    pub(crate) fn look_at_range(&mut self, range: LogRange) {
        self.queried = Some(range);
        self.withheld.answered(range.end);
        // What is pending may still be settled; a new epoch would drop it.
        if self.pending_records() > 0 {
            return;
        }
        if let Some(passed_over) = self
            .beginning
            .as_mut()
            .and_then(|beginning| beginning.range(range))
        {
            self.report_passed_over(passed_over);
        }
    }

    /// Before anything was read in this epoch: what was committed is about a log that is gone from
    /// `offset` on.
    fn report_cut(&mut self, expected: i64, offset: i64) {
        self.read_metrics.log_cut();
        tracing::warn!(
            topic = %self.topic, partition = self.partition, expected, offset,
            "the log was cut below the committed position, and written again, while no member read it: an unclean leader election, \
             a lost disk, or a re-created topic; all that was written there is processed"
        );
    }

    /// With `latest`. How much of what lies below `expected` is new is not known.
    fn report_cut_with_latest(&mut self, expected: i64, offset: i64) {
        self.read_metrics.log_cut();
        tracing::warn!(
            topic = %self.topic, partition = self.partition, expected, offset,
            "the log went back: it was cut, or the topic was re-created; with auto.offset.reset=latest \
             nothing is read below the expected position, and nothing below the end of a shorter log"
        );
    }

    /// Nothing is read again that lies in between.
    fn report_passed_over(&mut self, passed_over: PassedOver) {
        let PassedOver { from, to } = passed_over;
        tracing::warn!(
            topic = %self.topic, partition = self.partition, from = from.get(), to = to.get(),
            "records were passed over: they were deleted before they were read, or auto.offset.reset leaves them out"
        );
        self.read_metrics.passed_over(passed_over.offsets());
    }
}

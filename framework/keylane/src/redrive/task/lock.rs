//! The lock of a task: its transactional id, and the transactions that it is held by.

use crate::producer::raw::OutgoingRecord;
use crate::producer::transactions::{TransactionError, Transactions};
use crate::redrive::connection::Connection;

/// Tests put one in its place that gives the answers which a broker gives too rarely.
pub(super) trait Lock: Send {
    /// To be called while nothing is written.
    fn serve(&self);

    /// Writes these records in one transaction: all of them, or none.
    fn write(&self, records: &[&OutgoingRecord]) -> Result<(), TransactionError>;

    /// The same, but without another attempt where it takes too long.
    fn write_in_time(&self, records: &[&OutgoingRecord]) -> Result<(), TransactionError>;
}

/// Takes the lock of this transactional id.
pub(super) type TakeLock =
    Box<dyn Fn(&Connection, &str) -> Result<Box<dyn Lock>, TransactionError> + Send>;

pub(super) fn take(connection: &Connection, id: &str) -> Result<Box<dyn Lock>, TransactionError> {
    let (servers, settings) = (connection.servers(), connection.settings());
    let taken = Transactions::take(servers, settings, id, connection.patience)?;
    Ok(Box::new(taken))
}

impl Lock for Transactions {
    fn serve(&self) {
        self.serve();
    }

    fn write(&self, records: &[&OutgoingRecord]) -> Result<(), TransactionError> {
        self.write(records)
    }

    fn write_in_time(&self, records: &[&OutgoingRecord]) -> Result<(), TransactionError> {
        self.write_in_time(records)
    }
}

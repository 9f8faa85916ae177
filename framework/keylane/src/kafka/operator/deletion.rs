//! Deletes the first records of partitions.

use std::collections::BTreeMap;

use keylane_core::Position;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::error::is_refusal;
use super::{Operator, OperatorError, block_on};

/// What became of the deletion of a partition's first records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// They are gone.
    Done,
    /// The broker did not do it, for this reason.
    Refused(String),
    /// No answer has come, for this reason: it may have been done.
    Unknown(String),
}

impl Deletion {
    fn of(code: Code) -> Self {
        match code {
            Code::PolicyViolation => Self::Refused(format!(
                "{code}; records of a topic that is only compacted cannot be deleted (cleanup.policy)"
            )),
            code if is_refusal(code) => Self::Refused(code.to_string()),
            code => Self::Unknown(code.to_string()),
        }
    }
}

impl Operator {
    /// Deletes the records before these positions, and says what became of each.
    ///
    /// # Errors
    /// Where nothing was sent.
    pub fn delete_records(
        &self,
        topic: &str,
        before: &[(i32, Position)],
    ) -> Result<BTreeMap<i32, Deletion>, OperatorError> {
        let doing = || format!("delete records of {topic}");
        let mut list = TopicPartitionList::new();
        for (partition, before) in before {
            let before = Offset::Offset(before.get());
            list.add_partition_offset(topic, *partition, before)
                .map_err(|error| self.failed(doing(), &error))?;
        }
        let answer = self.administer(doing(), |admin, options| {
            // A failure is no error here: it has to be known whether something was sent.
            Ok(block_on(admin.delete_records(&list, options)))
        })?;
        let all = |it: &Deletion| {
            before
                .iter()
                .map(|(partition, _)| (*partition, it.clone()))
                .collect()
        };
        Ok(match answer {
            Err(KafkaError::Canceled) => all(&Deletion::Unknown("it was interrupted".to_owned())),
            Err(error) => match error.rdkafka_error_code() {
                Some(code) => all(&Deletion::of(code)),
                None => return Err(self.failed(doing(), &error)),
            },
            Ok(answer) => {
                let elements = answer.elements();
                let deletion = |partition: i32| {
                    let found = elements.iter().find(|it| it.partition() == partition);
                    match found.map(|it| it.error()) {
                        Some(Ok(())) => Deletion::Done,
                        Some(Err(KafkaError::OffsetFetch(code))) => Deletion::of(code),
                        Some(Err(error)) => Deletion::Unknown(error.to_string()),
                        None => Deletion::Unknown("the brokers do not mention it".to_owned()),
                    }
                };
                let deletions = before.iter().map(|(it, _)| (*it, deletion(*it)));
                deletions.collect()
            }
        })
    }
}

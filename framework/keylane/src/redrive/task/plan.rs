//! What a task would do, without doing it.

use super::RedriveTask;
use super::checks::is_for_one_group;
use super::report::Planned;
use super::targets::{check_targets, counts};
use crate::redrive::RedriveTaskError;

impl RedriveTask {
    /// What the task would do. Nothing is written. A task that runs is not disturbed.
    ///
    /// # Errors
    /// As [`run`](Self::run) has before its first copy, except for a task that has not ended.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn plan(self) -> Result<Planned, RedriveTaskError> {
        self.check_new()?;
        let mut scan = self.scan(true).await?;
        let group = scan.group(self.group.as_deref())?;
        let ops = self.ops(&group);
        ops.check_name()?;
        let (of_ops, topic, again) = (ops.clone(), self.topic.clone(), self.again);
        let log = scan.log.clone();
        let read = ops.blocking(move || {
            let state = of_ops.state(Some(&topic))?;
            of_ops.check_newer(&state)?;
            let handled = of_ops.left_out(&state, &topic, log.as_deref(), again)?;
            let unfinished = state.running(&topic).filter(|it| it.cancel.is_none());
            let unfinished = unfinished.map(|task| task.id.to_owned());
            Ok((handled, unfinished))
        });
        let (handled, unfinished) = read.await?;
        let handled = scan.leave_out(&handled);
        let targets = scan.targets()?;
        check_targets(targets.keys(), &self.topic, ops.name())?;
        let connection = self.connection.clone();
        let names: Vec<_> = targets.keys().cloned().collect();
        ops.blocking(move || counts(&connection, &names)).await?;
        let (fingerprints, other_fingerprints) = scan.take_fingerprints();
        Ok(Planned {
            group,
            matched: scan.matched,
            turns: scan.index.len() as u64,
            handled,
            refused: scan.refused,
            of_other_groups: scan.of_other_groups,
            not_letters: scan.not_letters,
            targets,
            for_every_group: !is_for_one_group(self.redrive.target()),
            fingerprints,
            other_fingerprints,
            ranges: scan.ranges,
            unfinished,
            topic: self.topic,
        })
    }
}

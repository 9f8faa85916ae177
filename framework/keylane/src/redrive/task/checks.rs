//! What of a task's settings cannot be used, before a broker is asked.

use keylane_core::redrive::{MAX_CANARY, MAX_WINDOW, RunSettings};

use super::RedriveTask;
use crate::redrive::copy::Target;
use crate::redrive::edit::LONGEST_TEXT;
use crate::redrive::ops::{LONGEST_NAME, LONGEST_REASON, OnRefused};
use crate::redrive::{Redrive, RedriveTaskError};

impl RedriveTask {
    pub(super) fn check_new(&self) -> Result<(), RedriveTaskError> {
        let id = self.id.as_ref().map(Redrive::named).transpose();
        if let Err(error) = id {
            return wrong(&error.to_string());
        }
        if self.redrive.is_named_or_partitioned() {
            return wrong(
                "its `Redrive` has a name, or partitions; name the task by `id`, the partitions are those of the target",
            );
        }
        if !(1..=MAX_WINDOW).contains(&self.settings.window) {
            return wrong("the window is from 1 to 10,000 copies");
        }
        if self.settings.rate == Some(0) {
            return wrong("a rate is at least 1 copy a second");
        }
        if let Some(canary) = self.settings.canary {
            if !(1..=MAX_CANARY).contains(&canary.copies) || canary.percent > 100 {
                return wrong("a canary has 1 to 10,000 copies, and 0 to 100 percent");
            }
            if !is_for_one_group(self.redrive.target()) {
                return wrong(
                    "a canary needs copies for one group, whose progress shows what became of them; use a retry \
                     topic, or no canary",
                );
            }
        }
        self.check_run()
    }

    /// A task that is resumed has its settings. Others would be ignored.
    pub(super) fn check_resume(&self) -> Result<(), RedriveTaskError> {
        let Self {
            filter,
            ranges,
            redrive,
            settings,
            on_refused,
            again,
            id,
            take_over,
            ..
        } = self;
        let are_given = [
            ("filter", !filter.to_string().is_empty()),
            ("ranges", ranges.is_some()),
            ("redrive", *redrive != Redrive::default()),
            (
                "rate, max, window or canary",
                *settings != RunSettings::default(),
            ),
            ("on_refused", *on_refused != OnRefused::default()),
            ("again", *again),
            ("id", id.is_some()),
            ("take_over", *take_over),
        ];
        match are_given.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => wrong(&format!(
                "a task is resumed with the settings that it was started with; leave out {name}"
            )),
            None => self.check_run(),
        }
    }

    fn check_run(&self) -> Result<(), RedriveTaskError> {
        if self.who().len() > LONGEST_NAME {
            return wrong("the name of who begins a redrive has at most 255 bytes");
        }
        if self
            .why
            .as_ref()
            .is_some_and(|why| why.len() > LONGEST_REASON)
        {
            return wrong("the reason of a redrive has at most 4,096 bytes");
        }
        if let Some(edit) = &self.edit
            && edit.text().len() > LONGEST_TEXT
        {
            return wrong("the text of an edit has at most 64 KiB");
        }
        Ok(())
    }
}

fn wrong(reason: &str) -> Result<(), RedriveTaskError> {
    Err(RedriveTaskError::Setting {
        reason: reason.to_owned(),
    })
}

pub(super) fn is_for_one_group(target: &Target) -> bool {
    match target {
        Target::RetryTopic => true,
        Target::Origin => false,
        Target::Topic { group, .. } => group.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use keylane_core::redrive::Canary;

    use super::super::run::new_id;
    use super::*;
    use crate::dead_letter::Filter;

    #[tokio::test]
    async fn what_cannot_be_used_is_refused_before_a_broker_is_asked() {
        let canary = Canary {
            copies: 5,
            percent: 90,
        };
        let origin = || Redrive::default().to_origin();
        for (task, words) in [
            (RedriveTask::of("d").window(0), "from 1 to 10,000"),
            (RedriveTask::of("d").rate(0), "at least 1 copy"),
            (RedriveTask::of("d").id("a/b"), "the name of a redrive"),
            (
                RedriveTask::of("d").canary(canary).redrive(origin()),
                "one group",
            ),
            (
                RedriveTask::of("d").by("x".repeat(256)),
                "at most 255 bytes",
            ),
        ] {
            let error = task
                .bootstrap_servers("127.0.0.1:1")
                .run()
                .await
                .unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let named = Redrive::named("own").unwrap();
        let parted = Redrive::default().partitions(3);
        for redrive in [named, parted] {
            let task = RedriveTask::of("d").bootstrap_servers("127.0.0.1:1");
            let error = task.redrive(redrive).plan().await.unwrap_err();
            assert!(error.to_string().contains("by `id`"), "{error}");
        }
        let all: [fn(RedriveTask) -> RedriveTask; 5] = [
            |it| it.id("x"),
            |it| it.window(7),
            |it| it.again(),
            |it| it.filter(Filter::parse(["reason=fatal"]).unwrap()),
            |it| it.redrive(Redrive::default().to_origin()),
        ];
        for given in all {
            let task = RedriveTask::of("d").bootstrap_servers("127.0.0.1:1");
            let error = given(task.group("g")).resume("x").await.unwrap_err();
            assert!(error.to_string().contains("leave out"), "{error}");
        }
        let error = RedriveTask::of("d").resume("x").await.unwrap_err();
        assert!(error.to_string().contains("name the group"), "{error}");
        assert!(Redrive::named(new_id()).is_ok());
    }
}

//! A redrive as it is asked for: by a command's flags, or by a body of JSON.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::ops::{OnRefused, forms};
use super::{Canary, LetterRange, MergePatch, Redrive, RedriveTask, RedriveTaskError};
use crate::dead_letter::Filter;

/// What a redrive copies, where to, and how. The fields are the flags of `keylane dlq redrive`, and
/// the body of the admin server's request.
///
/// # Examples
/// ```
/// use std::time::SystemTime;
/// use keylane::redrive::{RedriveRequest, RedriveTask};
///
/// # fn read() -> Result<(), Box<dyn std::error::Error>> {
/// let body = r#"{"filter": ["reason=exhausted", "time=90m.."], "canary": 20, "rate": 50}"#;
/// let request: RedriveRequest = serde_json::from_str(body)?;
/// let task = RedriveTask::of("parking-events-dlq").requested(&request, SystemTime::now())?;
/// # let _ = task;
/// # Ok(()) }
/// # read().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedriveRequest {
    /// The terms of a [`Filter`]; all have to hold. Times may be ages. Default: all letters.
    pub filter: Vec<String>,
    /// The consumer group whose letters are meant. Default: the one that all of them name.
    pub group: Option<String>,
    /// `origin`, or the topic that copies go to. Every group that reads it gets them. Default: the
    /// retry topic that each letter names.
    pub to: Option<String>,
    /// The retry topic of the group, for letters that name none. Needs the group, and no `to`.
    pub retry_topic: Option<String>,
    /// Changes each value.
    pub merge_patch: Option<MergePatch>,
    /// Copies a second at most. Default: no limit.
    pub rate: Option<u32>,
    /// Copies at most. Default: no limit.
    pub max: Option<u64>,
    /// Copies of one transaction at most. Default: 500.
    pub window: Option<u32>,
    /// Copies so many first, and the others if enough of these succeed. Default: no canary.
    pub canary: Option<u32>,
    /// How many percent of the canary have to succeed. Default: 95.
    pub proceed_if: u8,
    /// How many times the same record may be written back. Default: 3.
    pub max_count: u32,
    /// What is done with a letter whose copy cannot be written. Default: the task ends.
    pub on_refused: OnRefused,
    /// The task's name. Default: the time, and four random digits.
    pub name: Option<String>,
    /// Ends a task on the same dead-letter topic that has not ended. Default: that refuses this one.
    pub take_over: bool,
    /// Reads these ranges only, each as partition, first offset, and the offset behind the last one. A
    /// plan has those that it has read. Default: the whole topic, to its end as it is then.
    #[serde(with = "forms::some_ranges")]
    pub ranges: Option<Vec<LetterRange>>,
}

impl Default for RedriveRequest {
    fn default() -> Self {
        Self {
            filter: Vec::new(),
            group: None,
            to: None,
            retry_topic: None,
            merge_patch: None,
            rate: None,
            max: None,
            window: None,
            canary: None,
            proceed_if: 95,
            max_count: 3,
            on_refused: OnRefused::default(),
            name: None,
            take_over: false,
            ranges: None,
        }
    }
}

impl RedriveTask {
    /// What this request asks for. How the brokers are reached, and who asks, is set by the other
    /// setters.
    ///
    /// # Errors
    /// [`RedriveTaskError::Setting`] where a field cannot be used.
    pub fn requested(
        mut self,
        request: &RedriveRequest,
        now: SystemTime,
    ) -> Result<Self, RedriveTaskError> {
        let filter = Filter::parse_at(now, &request.filter);
        self = self
            .filter(filter.map_err(|error| setting(error.to_string()))?)
            .redrive(request.redrive()?);
        if let Some(group) = &request.group {
            self = self.group(group);
        }
        if let Some(ranges) = &request.ranges {
            self = self.ranges(ranges.iter().copied());
        }
        if let Some(rate) = request.rate {
            self = self.rate(rate);
        }
        if let Some(max) = request.max {
            self = self.max(max);
        }
        if let Some(window) = request.window {
            self = self.window(window);
        }
        if let Some(copies) = request.canary {
            let percent = request.proceed_if;
            self = self.canary(Canary { copies, percent });
        }
        if let Some(patch) = &request.merge_patch {
            self = self.edit(patch.clone());
        }
        if let Some(name) = &request.name {
            self = self.id(name);
        }
        self = self.on_refused(request.on_refused);
        Ok(match request.take_over {
            true => self.take_over(),
            false => self,
        })
    }
}

impl RedriveRequest {
    fn redrive(&self) -> Result<Redrive, RedriveTaskError> {
        let redrive = Redrive::default().max_count(self.max_count);
        Ok(match (&self.retry_topic, &self.group, &self.to) {
            (Some(_), _, Some(_)) => {
                return Err(setting("give either a retry topic or `to`"));
            }
            (Some(_), None, _) => {
                return Err(setting("a retry topic is that of a group: name the group"));
            }
            (Some(topic), Some(group), None) => redrive.to_retry_topic_of(group, checked(topic)?),
            (None, _, Some(to)) if to == "origin" => redrive.to_origin(),
            (None, _, Some(topic)) => redrive.to_topic(checked(topic)?),
            (None, _, None) => redrive,
        })
    }
}

fn checked(topic: &str) -> Result<&str, RedriveTaskError> {
    keylane_core::check_topic_name(topic)
        .map(|()| topic)
        .map_err(|rule| setting(format!("{topic:?} is no topic's name: {rule}")))
}

fn setting(reason: impl Into<String>) -> RedriveTaskError {
    RedriveTaskError::Setting {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(body: &str) -> Result<RedriveTask, String> {
        let request: RedriveRequest =
            serde_json::from_str(body).map_err(|error| error.to_string())?;
        let task = RedriveTask::of("dead").requested(&request, SystemTime::now());
        task.map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_asked_for_has_the_defaults_of_a_task() {
        let request: RedriveRequest = serde_json::from_str("{}").unwrap();
        assert_eq!(request, RedriveRequest::default());
        assert_eq!(request.redrive().unwrap(), Redrive::default());
        let again = serde_json::to_string(&request).unwrap();
        assert_eq!(
            serde_json::from_str::<RedriveRequest>(&again).unwrap(),
            request
        );
    }

    #[test]
    fn copies_go_where_the_request_says() {
        let redrive = |body: &str| {
            serde_json::from_str::<RedriveRequest>(body)
                .unwrap()
                .redrive()
        };
        let default = Redrive::default;
        assert_eq!(redrive(r#"{"to": "origin"}"#), Ok(default().to_origin()));
        assert_eq!(
            redrive(r#"{"to": "other"}"#),
            Ok(default().to_topic("other"))
        );
        assert_eq!(
            redrive(r#"{"retry_topic": "again", "group": "g", "max_count": 1}"#),
            Ok(default().max_count(1).to_retry_topic_of("g", "again"))
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (body, words) in [
            (r#"{"filter": ["raeson=exhausted"]}"#, "raeson"),
            (r#"{"retry_topic": "again"}"#, "name the group"),
            (
                r#"{"retry_topic": "again", "group": "g", "to": "other"}"#,
                "either",
            ),
            (r#"{"to": "an other"}"#, "no topic's name"),
            (r#"{"ranges": [[0, 7]]}"#, "tuple"),
            (r#"{"canray": 7}"#, "canray"),
        ] {
            let error = task(body).unwrap_err();
            assert!(error.contains(words), "{body}: {error}");
        }
        assert!(task(r#"{"filter": ["time=90m.."], "ranges": [[0, 7, 9]]}"#).is_ok());
    }
}

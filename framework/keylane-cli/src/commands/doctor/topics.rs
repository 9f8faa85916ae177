//! What is to be known about a topic.

use std::collections::BTreeMap;
use std::time::Duration;

use keylane::operator::Access;

use super::Finding;

const MAX_BYTES: &str = "max.message.bytes";
const RETENTION: &str = "retention.ms";
const CLEANUP: &str = "cleanup.policy";
/// What headers of a retry may add to a record.
const HEADER_BYTES: u64 = 16 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: i32,
    pub(super) without_leader: Vec<i32>,
    pub(super) is_retry: bool,
    /// Of a retry topic, where it is known.
    pub(super) origin: Option<String>,
    /// Or the reason why they cannot be read.
    pub(super) settings: Result<BTreeMap<String, String>, String>,
    pub(super) access: Access,
}

impl Topic {
    /// `all`: the group's topics.
    pub(super) fn findings(&self, all: &[Self]) -> Vec<Finding> {
        let mut findings = vec![self.leaders(), self.permissions()];
        match &self.settings {
            Ok(_) => findings.extend(self.limits(all)),
            Err(reason) => findings.push(
                Finding::unknown("limits", &self.name, reason)
                    .fix("allow DESCRIBE_CONFIGS on the topic"),
            ),
        }
        findings
    }

    fn leaders(&self) -> Finding {
        let count = self.partitions;
        if self.without_leader.is_empty() {
            let text = format!("{count} partitions, each with a leader");
            return Finding::ok("partitions", &self.name, text);
        }
        let missing = self.without_leader.iter().map(i32::to_string);
        let missing = missing.collect::<Vec<_>>().join(", ");
        let text = format!("of {count} partitions these have no leader: {missing}");
        Finding::problem("partitions", &self.name, text).fix("start the brokers that hold them")
    }

    fn permissions(&self) -> Finding {
        let Access { read, write } = self.access;
        let needed = match self.is_retry {
            true => vec![("READ", read), ("WRITE", write)],
            false => vec![("READ", read)],
        };
        let is_missing = |(_, may): &&(&str, Option<bool>)| *may == Some(false);
        let names = |of: &[&(&str, Option<bool>)]| {
            let names = of.iter().map(|(name, _)| *name);
            names.collect::<Vec<_>>().join(" and ")
        };
        let missing: Vec<_> = needed.iter().filter(is_missing).collect();
        if !missing.is_empty() {
            let names = names(&missing);
            let text = format!("no {names} on the topic");
            return Finding::problem("permissions", &self.name, text)
                .fix(format!("allow {names} on the topic"));
        }
        match needed.iter().all(|(_, may)| may.is_some()) {
            true => {
                let text = names(&needed.iter().collect::<Vec<_>>());
                Finding::ok("permissions", &self.name, text)
            }
            false => Finding::unknown("permissions", &self.name, "the brokers do not say"),
        }
    }

    fn limits(&self, all: &[Self]) -> Vec<Finding> {
        let setting = |name: &str| self.setting(name).unwrap_or("unknown");
        let retention = match self.setting(RETENTION).and_then(|it| it.parse().ok()) {
            Some(millis) => humantime::format_duration(Duration::from_millis(millis)).to_string(),
            // -1
            None => "without end".to_owned(),
        };
        let text = format!(
            "{MAX_BYTES} {}, retention {retention}, {CLEANUP} {}",
            setting(MAX_BYTES),
            setting(CLEANUP)
        );
        let mut findings = vec![Finding::ok("limits", &self.name, text)];
        if self.is_retry && setting(CLEANUP).contains("compact") {
            let text = "compaction deletes retries of a key while they wait";
            let finding = Finding::problem("limits", &self.name, text);
            findings.push(finding.fix(format!("set {CLEANUP}=delete")));
        }
        let origin = self.origin.as_ref();
        let origin = origin.and_then(|name| all.iter().find(|topic| topic.name == *name));
        let bytes = |topic: &Self| topic.setting(MAX_BYTES)?.parse::<u64>().ok();
        if let (Some(own), Some(of_origin)) = (bytes(self), origin.and_then(bytes))
            && own < of_origin
        {
            let text = format!(
                "it takes {own} bytes, its origin {of_origin}: what does not fit is retried in place"
            );
            let fix = format!(
                "set {MAX_BYTES} to {}",
                of_origin.saturating_add(HEADER_BYTES)
            );
            findings.push(Finding::warning("limits", &self.name, text).fix(fix));
        }
        findings
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref().ok()?.get(name).map(|it| &**it)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn topic(name: &str, settings: &[(&str, &str)]) -> Topic {
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| (name.to_string(), value.to_string()));
        Topic {
            name: name.to_owned(),
            partitions: 3,
            without_leader: Vec::new(),
            is_retry: name.ends_with("-retry"),
            origin: name.strip_suffix("-retry").map(str::to_owned),
            settings: Ok(settings.collect()),
            access: Access {
                read: Some(true),
                write: Some(true),
            },
        }
    }

    /// Those that are not ok, each with its fix.
    fn bad(topic: &Topic, all: &[Topic]) -> Vec<(Verdict, String)> {
        let findings = topic.findings(all).into_iter();
        let bad = findings.filter(|it| it.verdict != Verdict::Ok);
        bad.map(|it| (it.verdict, it.fix.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_sound_topic_shows_its_limits() {
        let sound = [
            (MAX_BYTES, "1048588"),
            (RETENTION, "604800000"),
            (CLEANUP, "delete"),
        ];
        let origin = topic("a", &sound);
        assert_eq!(bad(&origin, &[]), []);
        let texts: Vec<String> = origin.findings(&[]).into_iter().map(|it| it.text).collect();
        let limits = "max.message.bytes 1048588, retention 7days, cleanup.policy delete";
        assert!(texts.iter().any(|text| text == limits), "{texts:?}");
    }

    #[test]
    fn a_retry_topic_that_is_compacted_or_too_small_is_found() {
        let origin = topic("a", &[(MAX_BYTES, "2000000")]);
        let retry = topic(
            "a-retry",
            &[(CLEANUP, "compact,delete"), (MAX_BYTES, "1000000")],
        );
        assert_eq!(
            bad(&retry, &[origin]),
            [
                (Verdict::Problem, "set cleanup.policy=delete".to_owned()),
                (
                    Verdict::Warning,
                    "set max.message.bytes to 2016384".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn what_is_missing_or_unknown_is_no_ok() {
        let mut broken = topic("a-retry", &[]);
        broken.without_leader = vec![1, 2];
        broken.access.write = Some(false);
        broken.settings = Err("the cluster refuses".to_owned());
        assert_eq!(
            bad(&broken, &[]),
            [
                (
                    Verdict::Problem,
                    "start the brokers that hold them".to_owned()
                ),
                (Verdict::Problem, "allow WRITE on the topic".to_owned()),
                (
                    Verdict::Unknown,
                    "allow DESCRIBE_CONFIGS on the topic".to_owned()
                ),
            ]
        );
        let mut unknown = topic("a", &[]);
        unknown.access = Access::default();
        assert_eq!(bad(&unknown, &[]), [(Verdict::Unknown, String::new())]);
    }
}

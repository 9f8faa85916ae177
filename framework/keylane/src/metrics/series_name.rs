//! The `subscription` label: one for each subscription that runs in the process.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::support::lock::lock;

/// Of the subscriptions that run. Bounded by their number.
static IN_USE: Mutex<BTreeSet<Arc<str>>> = Mutex::new(BTreeSet::new());

/// A name that no other subscription of the process has. It is free again once this is dropped.
///
/// With the same name, counters would add up, and gauges would overwrite each other.
#[derive(Debug)]
pub(crate) struct SeriesName(Arc<str>);

impl SeriesName {
    /// The subscription's name, or with a number behind it where another one has that name.
    pub(crate) fn claim(name: &str) -> Self {
        let mut in_use = lock(&IN_USE);
        let mut own: Arc<str> = name.into();
        let mut number = 1;
        while in_use.contains(&own) {
            number += 1;
            own = format!("{name}-{number}").into();
        }
        in_use.insert(own.clone());
        drop(in_use);
        if number > 1 {
            tracing::warn!(
                subscription = name,
                series = &*own,
                "another subscription of this process has the same name: metrics of this one have a number behind it; \
                 give each its own name (`name`)"
            );
        }
        Self(own)
    }

    pub(crate) fn get(&self) -> &Arc<str> {
        &self.0
    }
}

impl Drop for SeriesName {
    fn drop(&mut self) {
        lock(&IN_USE).remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_that_runs_has_a_name_of_its_own() {
        let claim = || SeriesName::claim("notifier of this test");
        let name = |number| format!("notifier of this test{number}");
        let first = claim();
        let second = claim();
        let third = claim();
        let taken = SeriesName::claim("notifier of this test-2");
        let names = [&first, &second, &third, &taken].map(|it| it.get().to_string());
        assert_eq!(names, [name(""), name("-2"), name("-3"), name("-2-2")]);
        drop(second);
        drop(taken);
        let fourth = claim();
        assert_eq!(
            fourth.get().to_string(),
            name("-2"),
            "the lowest one is free"
        );
        drop((first, third, fourth));
        assert_eq!(claim().get().to_string(), name(""));
    }
}

//! What the members of this program report.

use std::sync::LazyLock;

use keylane::metrics::{PrometheusEndpoint, serve_prometheus};

/// The recorder is one for the process. It has to be there before a member starts.
static ENDPOINT: LazyLock<PrometheusEndpoint> = LazyLock::new(|| serve_prometheus(0).unwrap());

pub(crate) fn record() {
    LazyLock::force(&ENDPOINT);
}

/// The first series of this name and subscription.
pub(crate) fn value(name: &str, subscription: &str) -> Option<f64> {
    let label = format!("subscription=\"{subscription}\"");
    let text = ENDPOINT.handle().render();
    let mut series = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let is_it = series.split('{').next() == Some(name) && series.contains(&label);
        is_it.then(|| value.parse().ok())?
    });
    series.next()
}

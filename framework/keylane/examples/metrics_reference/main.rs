//! Writes `src/metrics/reference.md`, the page of all metrics, from the table in the code and from
//! what the dashboards and alert rules in `docker/` ask for.
//!
//! `cargo run -p keylane --example metrics_reference`

mod decaton;
mod page;
mod usage;

fn main() -> std::io::Result<()> {
    std::fs::write(page::path(), page::render()?)
}

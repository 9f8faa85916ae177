//! How much of what is settled ahead fits into a commit's metadata, and what a commit weighs:
//! prints the tables of `src/commit_map/capacity.md`. The same numbers every time.
//!
//! `cargo run -p keylane-core --example commit_map_capacity`

mod report;

fn main() {
    print!("{}", report::report());
}

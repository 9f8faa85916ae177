//! What runs in processes that tests start, and that end in the middle of their work. The program
//! `member` is made of it.

pub mod operations;
pub mod outbox;
pub mod poison;
pub mod redrive;

/// What keylane logs, from *info* on.
fn log_to_stderr() {
    let level = tracing_subscriber::EnvFilter::new("keylane=info,keylane_sql=info");
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}

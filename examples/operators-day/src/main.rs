//! The service of the manual's page "An operator's day"; see the library of this package.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use keylane::SubscriptionConfig;
use operators_day::{Gateway, Service};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Notifies drivers, until SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The subscription's settings (YAML).
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// Where to serve the metrics for Prometheus.
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "HOST:PORT")]
    metrics_addr: SocketAddr,
    /// Where to serve health and state.
    #[arg(long, default_value = "127.0.0.1:8082", value_name = "HOST:PORT")]
    admin_addr: SocketAddr,
    /// While this file is there, the gateway runs on an old backup: it refuses some vehicles.
    #[arg(long, default_value = "/tmp/old-backup", value_name = "FILE")]
    old_backup: PathBuf,
    /// Events written each second, in tens.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(10..=900))]
    rate: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let settings = std::fs::read_to_string(&arguments.settings)?;
    let config: SubscriptionConfig = serde_norway::from_str(&settings)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let service = Service {
        config,
        metrics: arguments.metrics_addr,
        admin: arguments.admin_addr,
        gateway: Gateway {
            old_backup: arguments.old_backup,
        },
        rate: arguments.rate,
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = ctrl_c() => {}
        }
    };
    service.run(|_| {}, stop).await
}

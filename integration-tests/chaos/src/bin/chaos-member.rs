//! A member of the group, in a process of its own, so that it can be killed: `chaos-member
//! SETTINGS`, the settings as JSON (`keylane_chaos::settings::Member`). It ends in order on
//! SIGTERM, and dies with the program that started it.

use std::{process::ExitCode, sync::Arc};

use keylane::Raw;
use keylane_chaos::{
    downstream::Downstream,
    journal::{Journal, Note},
    member::{Epochs, Watch, process},
    planted::{PanickingLayer, PanickingRecorder, Panics},
    settings::Member,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    // Also while it is stopped, and however the program ends.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let settings = std::env::args().nth(1).unwrap_or_default();
    let settings: Member = match serde_json::from_str(&settings) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("usage: chaos-member SETTINGS: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn run(settings: &Member) -> Result<(), Box<dyn std::error::Error>> {
    let journal = Arc::new(Journal::open(&settings.journal)?);
    let epochs = Arc::new(Epochs::default());
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .with_filter(EnvFilter::new("keylane=info,librdkafka=info"));
    let panics = Panics::watch(journal.clone(), &settings.journal);
    metrics::set_global_recorder(PanickingRecorder(panics.clone()))?;
    tracing_subscriber::registry()
        .with(log)
        .with(Watch::new(journal.clone(), epochs.clone()))
        .with(PanickingLayer(panics))
        .init();
    let mut terminated = signal(SignalKind::terminate())?;
    journal.note(Note::Up {
        commit_interval_ms: settings.tuning.commit_interval_ms,
    });
    let downstream = Downstream::at(settings.downstream.clone());
    let result = async {
        let start = settings
            .subscription()
            .start(Raw, process(journal.clone(), epochs, downstream));
        let subscription = tokio::select! {
            started = start => started?,
            // Nothing has begun yet.
            _ = terminated.recv() => return Ok(()),
        };
        let stopping = async {
            terminated.recv().await;
            journal.note(Note::Stopping);
        };
        Ok::<(), Box<dyn std::error::Error>>(subscription.run_until(stopping).await?)
    }
    .await;
    journal.note(Note::Down {
        error: result.as_ref().err().map(ToString::to_string),
    });
    result
}

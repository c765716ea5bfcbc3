//! `edgeward serve`: runs the edge until it is told to stop.

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::assemble::assemble;
use crate::settings::SettingArgs;
use crate::{exit, operators, telemetry};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  edgeward serve
  edgeward serve --config edgeward.toml
  edgeward serve --listen 127.0.0.1:0 --set EDGE_LOG=json

SIGTERM and SIGINT stop it in order: answers in flight finish, streams end, and what it held in
memory goes to disk, so that the next start goes on where this one stopped.

Exit codes: 0 stopped in order; 1 it could not start or stop in order; 2 the settings are unusable,
and every fault is listed.")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingArgs,
}

pub(crate) async fn run(args: ServeArgs) -> ExitCode {
    let loaded = match args.settings.load() {
        Ok(loaded) => loaded,
        Err(faults) => return exit::unusable(faults),
    };
    if let Err(fault) = telemetry::start(&loaded.config.log) {
        return exit::unusable(fault);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match serve(loaded.config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failed(format_args!("{error:#}")),
    }
}

async fn serve(config: edgeward_config::Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // First what can fail for a port that is taken: whoever operates the edge must be able to.
    let admin = operators::bind(&config).await?;
    let assembled = assemble(config).await?;
    let serving = assembled.start();
    let stop_admin = CancellationToken::new();
    let socket = admin.socket_path().display().to_string();
    let address = admin.tcp_address();
    let operated = tokio::spawn(admin.serve(serving.operators(), stop_admin.clone()));
    let shown = address.map(tracing::field::display);
    tracing::info!(%socket, address = shown, "operators are listened to");
    if let Some(address) = address {
        println!("operators on http://{address}");
    }
    println!("listening on {}", serving.url);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = serving.broken().cancelled() => {}
    }
    let broken = serving.broken().is_cancelled();
    tracing::info!("stopping");
    let stopped = serving.stop().await;
    // The operators' side goes last: it tells that the edge is stopping.
    stop_admin.cancel();
    operated.await?;
    stopped?;
    tracing::info!("stopped in order");
    anyhow::ensure!(!broken, "a task that the edge cannot run without has died: see the log");
    Ok(())
}

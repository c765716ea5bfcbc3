//! `edgeward demo`: everything on this machine, in a minute, and nothing left of it.

mod caller;
mod config;
mod paste;
mod refusals;
mod show;
mod stage;
mod story;
mod upstream;
mod verdict;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use edgeward_client::Agent;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit;
use show::Show;
use stage::Stage;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  edgeward demo                              then paste the curl command that it prints
  edgeward demo --listen 127.0.0.1:8600      at an address of your choice
  edgeward demo --once --json                for programs: all at once, and the exit code says it

The demo starts an upstream and an edge before it, on loopback and in a temporary folder; enrols an
agent, lets it call and stream; then sends what must be refused. It stays up until Ctrl-C and leaves
nothing behind.

Exit codes: 0 every line was as it should be; 1 one was not, or the demo did not get to its end;
2 wrong usage.")]
pub(crate) struct DemoArgs {
    /// End when everything has been shown, instead of staying up
    #[arg(long)]
    once: bool,
    /// Print JSON at the end
    #[arg(long, requires = "once")]
    json: bool,
    /// The edge's address, on loopback; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = loopback)]
    listen: SocketAddr,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().to_canonical().is_loopback() => Ok(address),
        Ok(_) => Err("a demo is for this machine only: write 127.0.0.1:PORT or [::1]:PORT".into()),
        Err(_) => Err("write an address and a port, such as 127.0.0.1:8600".into()),
    }
}

pub(crate) async fn run(args: DemoArgs) -> ExitCode {
    // From the first moment on, so that nothing is left behind whenever the signal comes.
    let mut stop = match Stop::new() {
        Ok(stop) => stop,
        Err(error) => return exit::failed(format_args!("signals cannot be heard: {error}")),
    };
    let mut show = Show::new(args.json);
    show.line(&show.bold("Edgeward: an agent's life, and what is refused, on this machine"));
    show.line("");
    let Some(stage) = Stage::set(args.listen, &mut show).await else {
        show.verdict();
        return ExitCode::FAILURE;
    };
    let interrupted = perform(&stage, &mut show, args.once, &mut stop).await;
    if let Err(error) = stage.strike().await {
        return exit::failed(format_args!("{error:#}"));
    }
    if interrupted {
        show.line("\nStopped; the folder is gone.");
    }
    if show.is_all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows everything, then stays up if it is to. True when it ended by a signal.
async fn perform(stage: &Stage, show: &mut Show, once: bool, stop: &mut Stop) -> bool {
    let told = tokio::select! {
        told = story::tell(stage, show) => told,
        () = stop.asked() => return true,
    };
    show.verdict();
    if once {
        return false;
    }
    stay(stage, show, told.as_ref());
    stop.asked().await;
    true
}

fn stay(stage: &Stage, show: &Show, agent: Option<&Agent>) {
    let (url, credentials) = (stage.url(), stage.credentials());
    if let Some(agent) = agent {
        match paste::curl(agent) {
            Ok(curl) => show.line(&format!(
                "\n{}\n\n{curl}\n\n{}",
                show.bold(
                    "Paste this within a minute; a second time it is refused: nonce_replayed"
                ),
                paste::more(&credentials),
            )),
            Err(error) => show.line(&format!("\nNo curl command could be signed: {error:#}")),
        }
    }
    show.line(&format!("\n{}\n{}", show.bold("Where to go next"), paste::NEXT));
    show.line(&format!("\nThe edge stays up at {url} until Ctrl-C."));
}

/// What ends a demo that stays up.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

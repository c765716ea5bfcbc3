//! `edgeward demo`: everything on this machine, in a minute, and nothing left of it.

mod caller;
mod cluster;
mod config;
mod flowing;
mod paste;
mod refusals;
mod show;
mod stage;
mod story;
mod upstream;
mod verdict;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use edgeward_client::Agent;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit;
use cluster::Cluster;
use show::Show;
use stage::Stage;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  edgeward demo                              then paste the curl command that it prints
  edgeward demo --listen 127.0.0.1:8600      at an address of your choice
  edgeward demo --once --json                for programs: all at once, and the exit code says it
  edgeward demo --cluster                    three edges that act as one

The demo starts an upstream and an edge before it, on loopback and in a temporary folder; enrols an
agent, lets it call and stream; then sends what must be refused. It stays up until Ctrl-C and leaves
nothing behind.

With --cluster there are three edges behind a load balancer, over a PostgreSQL and a Redis that it
starts from this machine's programs (Debian's postgresql and redis-server). What happens at one must
hold at the others, also while Redis is killed and comes back empty.

Exit codes: 0 every line was as it should be; 1 one was not, or the demo did not get to its end;
2 wrong usage.")]
pub(crate) struct DemoArgs {
    /// End when everything has been shown, instead of staying up
    #[arg(long)]
    once: bool,
    /// Print JSON at the end
    #[arg(long, requires = "once")]
    json: bool,
    /// Three edges behind a load balancer, over a PostgreSQL and a Redis of the demo's own
    #[arg(long)]
    cluster: bool,
    /// The edge's address, or the load balancer's, on loopback; port 0 takes a free one
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

/// What a demo runs on, and what it tells there.
trait Scene: Sized {
    /// What it is about.
    const TITLE: &'static str;

    /// Sets it up; `None` when a step has failed, and then nothing is left of it.
    async fn set(listen: SocketAddr, show: &mut Show) -> Option<Self>;

    /// Tells it all. An agent, with its session open, is what is left in the end; `None` when a step
    /// has failed.
    async fn tell(&self, show: &mut Show) -> Option<Agent>;

    /// Where agents reach it, without a slash at the end.
    fn url(&self) -> &str;

    /// Where the agent that is left keeps its credentials.
    fn credentials(&self) -> PathBuf;

    /// Stops all of it in order and removes its folders.
    ///
    /// # Errors
    /// When something could not be stopped or removed; the rest is.
    async fn strike(self) -> anyhow::Result<()>;
}

pub(crate) async fn run(args: DemoArgs) -> ExitCode {
    if args.cluster { play::<Cluster>(args).await } else { play::<Stage>(args).await }
}

async fn play<S: Scene>(args: DemoArgs) -> ExitCode {
    // From the first moment on, so that nothing is left behind whenever the signal comes.
    let mut stop = match Stop::new() {
        Ok(stop) => stop,
        Err(error) => return exit::failed(format_args!("signals cannot be heard: {error}")),
    };
    let mut show = Show::new(args.json);
    show.line(&show.bold(S::TITLE));
    show.line("");
    let Some(scene) = S::set(args.listen, &mut show).await else {
        show.verdict();
        return ExitCode::FAILURE;
    };
    let interrupted = perform(&scene, &mut show, args.once, &mut stop).await;
    if let Err(error) = scene.strike().await {
        return exit::failed(format_args!("{error:#}"));
    }
    if interrupted {
        show.line("\nStopped; the folder is gone.");
    }
    if show.is_all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows everything, then stays up if it is to. True when it ended by a signal.
async fn perform(scene: &impl Scene, show: &mut Show, once: bool, stop: &mut Stop) -> bool {
    let told = tokio::select! {
        told = scene.tell(show) => told,
        () = stop.asked() => return true,
    };
    show.verdict();
    if once {
        return false;
    }
    stay(scene, show, told.as_ref());
    stop.asked().await;
    true
}

fn stay(scene: &impl Scene, show: &Show, agent: Option<&Agent>) {
    let (url, credentials) = (scene.url(), scene.credentials());
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
    show.line(&format!("\nIt stays up at {url} until Ctrl-C."));
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

//! `edgeward`: an authentication edge for fleets of distributed agents, in one binary.

mod agent;
mod agents;
mod assemble;
mod check;
mod config;
mod curl;
mod demo;
mod exit;
mod migrate;
mod operators;
mod serve;
mod settings;
mod status;
mod stores;
mod telemetry;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A self-hosted authentication edge for fleets of distributed agents.
#[derive(Debug, Parser)]
#[command(name = "edgeward", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  edgeward demo                              see everything work, on this machine, in a minute
  edgeward serve --config edgeward.toml      run the edge
  edgeward check --profile production        judge settings without starting
  edgeward config --json                     the settings in force, and where each came from
  edgeward agent enroll --edge https://edge.example --code ABCD-EFGH-JKMN

Exit codes: 0 done; 1 refused or failed; 2 wrong usage or settings; 3 network.";

#[derive(Debug, Subcommand)]
enum Command {
    /// See everything work on this machine: enrolment, a signed call, a stream, and what is refused.
    Demo(demo::DemoArgs),
    /// Run the edge.
    Serve(serve::ServeArgs),
    /// How the edge of this machine fares.
    Status(status::StatusArgs),
    /// Whether agents may act: block, unblock, retire.
    #[command(subcommand)]
    Agents(agents::AgentsCommand),
    /// Bring a PostgreSQL database's tables up to date, or print how.
    Migrate(migrate::MigrateArgs),
    /// Judge settings without starting anything.
    Check(check::CheckArgs),
    /// Print the settings in force and where each came from, secrets masked.
    Config(config::ConfigArgs),
    /// The agent's side: enrol, open a session, call, stream, sign.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::failed(format_args!("no runtime could be started: {error}")),
    };
    // One cryptographic library for everything; a second install can only mean that it is there.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    runtime.block_on(run(cli.command))
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Agents(command) => agents::run(command).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Check(args) => check::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Agent(command) => agent::run(command).await,
    }
}

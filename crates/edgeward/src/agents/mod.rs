//! `edgeward agents …`: what operators do with agents, through the edge that runs on this machine.

mod standing;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use standing::{Change, ChangeArgs};

/// What operators do with agents.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// Keep agents out, on every node, until they are unblocked.
    #[command(after_help = after_help(BLOCK))]
    Block(ChangeArgs),
    /// Let blocked agents in again; each opens a session anew.
    #[command(after_help = after_help(UNBLOCK))]
    Unblock(ChangeArgs),
    /// Take agents out for good: nothing brings them back.
    #[command(after_help = after_help(RETIRE))]
    Retire(RetireArgs),
}

const BLOCK: &str = "\
It is durable before the answer. From then on nothing that the agent was given opens anything: its
sessions and tokens are void, and its streams end. Other nodes hear of it at once.

Examples:
  edgeward agents block 0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f
  edgeward agents block 0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f --reason 'stolen, ticket 7' --json";

const UNBLOCK: &str = "\
What the agent was given before stays void, but its secret counts again.

Examples:
  edgeward agents unblock 0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f --reason 'found, ticket 7'";

const RETIRE: &str = "\
Final: a retired agent is never let in again, and cannot be enrolled anew under its id.

Examples:
  edgeward agents retire 0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f --destructive";

/// Shown under the help of each command.
const EXIT_CODES: &str = "\
Exit codes: 0 every agent stands as asked; 1 one does not, and it says why; 2 the command line or the
settings are wrong; 3 no edge was reached.";

fn after_help(own: &str) -> String {
    format!(
        "{own}\n\nAsks the running edge over the operators' socket in its data folder; of several nodes any \
         one will do.\n\n{EXIT_CODES}"
    )
}

/// A change that is final is asked for twice.
#[derive(Debug, Args)]
pub(crate) struct RetireArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Say that it is meant: it cannot be undone
    #[arg(long)]
    destructive: bool,
}

pub(crate) async fn run(command: AgentsCommand) -> ExitCode {
    match command {
        AgentsCommand::Block(args) => standing::run(Change::Block, args).await,
        AgentsCommand::Unblock(args) => standing::run(Change::Unblock, args).await,
        AgentsCommand::Retire(RetireArgs { change, destructive: true }) => {
            standing::run(Change::Retire, change).await
        }
        AgentsCommand::Retire(RetireArgs { change: _, destructive: false }) => {
            crate::exit::unusable(
                "retiring is final, nothing brings an agent back: say --destructive if it is meant, or \
                 block the agent, which can be undone",
            )
        }
    }
}

//! `edgeward agent …`: the agent's side, from a shell.

mod call;
mod enroll;
mod outcome;
mod request;
mod session;
mod sign;
mod stream;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use edgeward_client::{Agent, Settings};

use outcome::Failure;

/// What an agent can do from a shell.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Enrol this machine with a code that an owner has passed on.
    Enroll(enroll::EnrollArgs),
    /// Open, extend, end or show the session that later calls use.
    Session(session::SessionArgs),
    /// Make one signed call and print the answer's body.
    Call(call::CallArgs),
    /// Follow a stream of server-sent events through drops.
    Stream(stream::StreamArgs),
    /// Sign a request without sending it: the string to sign, and a curl command.
    Sign(sign::SignArgs),
}

/// Shown under the help of each command.
const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 refused, or another failure; 2 the command line is wrong; 3 the network.";

/// What all commands but `enroll` need.
#[derive(Debug, Args)]
struct Common {
    /// The file with the agent's credentials
    #[arg(long, value_name = "PATH", default_value = "./edgeward-agent.json")]
    credentials: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

impl Common {
    fn agent(&self) -> Result<Agent, Failure> {
        Ok(Agent::open(&self.credentials, self.connection.settings()?)?)
    }
}

/// How the edge is reached.
#[derive(Debug, Args)]
struct Connection {
    /// A file of certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "PATH")]
    ca: Option<PathBuf>,
    /// How far the edge's clock may be followed when this machine's is wrong; 0 never
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    max_clock_correction: u64,
}

impl Connection {
    fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        settings.max_clock_correction = Duration::from_secs(self.max_clock_correction);
        if let Some(path) = &self.ca {
            settings.trusted_pem = Some(outcome::read_file(path)?);
        }
        Ok(settings)
    }
}

/// Runs one command. Its output goes to stdout; what went wrong, and what to do, to stderr.
///
/// The cryptographic provider must be installed: see the documentation of `edgeward_client`.
pub(crate) async fn run(command: AgentCommand) -> ExitCode {
    let outcome = match command {
        AgentCommand::Enroll(args) => enroll::run(args).await,
        AgentCommand::Session(args) => session::run(args).await,
        AgentCommand::Call(args) => call::run(args).await,
        AgentCommand::Stream(args) => stream::run(args).await,
        AgentCommand::Sign(args) => sign::run(&args),
    };
    outcome.unwrap_or_else(|failure| failure.report()).into()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        command: AgentCommand,
    }

    #[test]
    fn the_command_line_is_sound_and_every_command_shows_an_example() {
        let mut program = Program::command();
        program.build();
        program.clone().debug_assert();
        for command in program.get_subcommands_mut().filter(|command| command.get_name() != "help")
        {
            let help = command.render_long_help().to_string();
            assert!(help.contains("edgeward agent "), "{help}");
            assert!(help.contains("Exit codes: 0 done"), "{help}");
        }
    }

    #[test]
    fn a_code_on_the_command_line_is_not_printed() {
        let line = ["agent", "enroll", "--edge", "http://127.0.0.1:1", "--code", "ABCD-EFGH-JKMN"];
        let shown = format!("{:?}", Program::try_parse_from(line).unwrap());
        assert!(!shown.contains("ABCD"), "{shown}");
    }
}

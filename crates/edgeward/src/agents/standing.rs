//! `edgeward agents block`, `unblock` and `retire`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use edgeward_admin::{AdminClient, ClientError};
use edgeward_wire::{AgentId, FormError};
use serde_json::{Value, json};

use crate::exit;
use crate::operators::socket_path;
use crate::settings::SettingArgs;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Block,
    Unblock,
    Retire,
}

impl Change {
    fn verb(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Retire => "retire",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The agents' ids
    #[arg(value_name = "AGENT_ID", required = true, value_parser = agent_id)]
    agents: Vec<AgentId>,
    /// Why, for whoever reads the events: at most 500 characters
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print JSON: one object for each agent, in a list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingArgs,
}

fn agent_id(text: &str) -> Result<AgentId, FormError> {
    AgentId::parse(text)
}

/// What came of asking for one agent.
enum Outcome {
    /// It stands as asked: the edge's answer.
    Done(Value),
    /// The edge's refusal.
    Refused(Value),
    /// No answer, or none that makes sense.
    Lost(ClientError),
    /// The edge was lost before.
    NotAsked,
}

pub(super) async fn run(change: Change, args: ChangeArgs) -> ExitCode {
    let loaded = match args.settings.load() {
        Ok(loaded) => loaded,
        Err(faults) => return exit::unusable(faults),
    };
    let client = AdminClient::new(socket_path(&loaded.config));
    let body = args.reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    let mut told = Vec::new();
    let (mut all_done, mut lost) = (true, false);
    for id in args.agents {
        let outcome = if lost { Outcome::NotAsked } else { ask(&client, change, id, &body).await };
        all_done &= matches!(outcome, Outcome::Done(_));
        lost |= matches!(outcome, Outcome::Lost(_));
        if !args.json {
            print_line(id, &outcome);
        }
        told.push(as_json(id, outcome));
    }
    if args.json {
        print(format_args!("{:#}", Value::Array(told)));
    }
    match (all_done, lost) {
        (true, _) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(exit::NETWORK),
    }
}

async fn ask(client: &AdminClient, change: Change, id: AgentId, body: &Value) -> Outcome {
    match client.post(&format!("/agents/{id}/{}", change.verb()), body).await {
        Ok((status, stands)) if status.is_success() => Outcome::Done(stands),
        Ok((_, problem)) => Outcome::Refused(problem),
        Err(error) => Outcome::Lost(error),
    }
}

/// What is done on stdout, what is not and what helps on stderr.
fn print_line(id: AgentId, outcome: &Outcome) {
    match outcome {
        Outcome::Done(stands) => {
            let text = |name: &str| stands.get(name).and_then(Value::as_str).unwrap_or("?");
            let number = |name: &str| stands.get(name).and_then(Value::as_u64).unwrap_or(0);
            let (standing, epoch) = (text("standing"), number("epoch"));
            if stands.get("changed") == Some(&Value::Bool(true)) {
                let cut = number("streams_cut");
                print(format_args!("{id}  {standing}, epoch {epoch}, streams cut: {cut}"));
            } else {
                print(format_args!("{id}  {standing} as before, epoch {epoch}"));
            }
        }
        Outcome::Refused(problem) => {
            let text = |name: &str| problem.get(name).and_then(Value::as_str);
            let title = text("title").unwrap_or("the edge refused");
            match text("detail") {
                Some(detail) => eprintln!("error: {id}: {title}: {detail}"),
                None => eprintln!("error: {id}: {title}"),
            }
        }
        Outcome::Lost(error) => eprintln!("error: {id}: {error}\n{}", way_out(error)),
        Outcome::NotAsked => eprintln!("error: {id}: not asked for"),
    }
}

fn way_out(error: &ClientError) -> &'static str {
    if matches!(error, ClientError::Unreachable { .. }) {
        "The edge is asked over the socket in its data folder: run this on a machine where one runs, as its \
         user or root, with the same EDGE_DATA_DIR or --data-dir."
    } else {
        "It may have been done all the same: asking again does no harm."
    }
}

fn as_json(id: AgentId, outcome: Outcome) -> Value {
    match outcome {
        Outcome::Done(stands) => stands,
        Outcome::Refused(problem) => json!({ "agent_id": id, "error": problem }),
        Outcome::Lost(error) => {
            let code =
                if matches!(error, ClientError::Unreachable { .. }) { "unreached" } else { "lost" };
            let (title, detail) = (error.to_string(), way_out(&error));
            json!({ "agent_id": id, "error": { "code": code, "title": title, "detail": detail } })
        }
        Outcome::NotAsked => {
            json!({ "agent_id": id, "error": { "code": "not_asked", "title": "not asked for" } })
        }
    }
}

/// A line on stdout. The exit code says how it went, whoever reads.
fn print(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

//! `edgeward agent session`.

use clap::{Args, ValueEnum};
use edgeward_client::Session;
use edgeward_client::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::outcome::{Failure, Outcome, print, print_json};
use super::{Common, EXIT_CODES};

const EXAMPLES: &str = "\
Examples:
  edgeward agent session start     later calls use it, and extend it when it is time
  edgeward agent session           shows when it ends
  edgeward agent session end       its streams end with it";

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct SessionArgs {
    /// What to do
    #[arg(value_enum, default_value_t = Action::Show)]
    action: Action,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// Open a session, in place of the one that is held
    Start,
    /// Make the session last longer
    Extend,
    /// End the session
    End,
    /// Show when the session ends
    Show,
}

pub(super) async fn run(args: SessionArgs) -> Result<Outcome, Failure> {
    let agent = args.common.agent()?;
    let session = match args.action {
        Action::Start => Some(agent.open_session().await?),
        Action::Extend => Some(agent.extend().await?),
        Action::End => {
            let ended = agent.end_session().await?;
            let text = if ended { "The session has ended.\n" } else { "No session is open.\n" };
            if args.json {
                print_json(&json!({"ended": ended}))?
            } else {
                print(text)?
            }
            return Ok(Outcome::Done);
        }
        Action::Show => agent.session(),
    };
    show(session.as_ref(), args.json)?;
    Ok(if session.is_some() { Outcome::Done } else { Outcome::Refused })
}

fn show(session: Option<&Session>, as_json: bool) -> Result<(), Failure> {
    let now = SystemClock.now_ms();
    if as_json {
        // The id stays in the credentials: together with a leaked secret it would be worth more.
        return print_json(&session.map_or(Value::Null, |session| {
            json!({
                "id_sha256": session.id.hash().to_string(),
                "ends_in_ms": session.ends_at_ms.saturating_sub(now),
                "expires_at_ms": session.expires_at_ms,
                "max_expires_at_ms": session.max_expires_at_ms,
            })
        }));
    }
    let Some(session) = session else {
        return print("No session is open.\n");
    };
    let longest = session.max_expires_at_ms.saturating_sub(session.expires_at_ms);
    let left = session.ends_at_ms.saturating_sub(now);
    print(format!(
        "Session ends in {}; it can be extended for another {}.\n",
        duration(left),
        duration(longest)
    ))
}

/// `23 h 50 min`, `9 min 59 s`, `12 s`.
fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes} min {rest} s"),
        _ => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_people_say_them() {
        for (ms, text) in [
            (0, "0 s"),
            (12_900, "12 s"),
            (599_000, "9 min 59 s"),
            (3_600_000, "1 h 0 min"),
            (85_800_000, "23 h 50 min"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}

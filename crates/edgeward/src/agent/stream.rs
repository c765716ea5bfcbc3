//! `edgeward agent stream`.

use clap::Args;
use edgeward_client::sse::Parser;
use edgeward_client::{Agent, Event, StreamOptions};
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method};
use serde_json::json;

use super::outcome::{Failure, Outcome, note, print};
use super::request::{Header, headers};
use super::{Common, EXIT_CODES};

const EXAMPLES: &str = "\
Examples:
  edgeward agent stream /v1/events
  edgeward agent stream '/v1/events?topic=jobs' --json --max-events 10
  edgeward agent stream /v1/events --last-event-id 41
  edgeward agent stream /v1/chat --raw

Prints the data of each event, after `name: ` if it is not a plain message. After a drop the stream
is opened again from the last event id; --once and --raw end with the first connection instead.";

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct StreamArgs {
    /// Path and query, under the edge's base path
    target: String,
    /// Go on after this event
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_events: Option<u64>,
    /// End with the first connection
    #[arg(long)]
    once: bool,
    /// Print the bytes of one connection as they come
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print one JSON object per event and line
    #[arg(long)]
    json: bool,
    /// A header, `name: value`; may stand several times
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<Header>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(args: StreamArgs) -> Result<Outcome, Failure> {
    let agent = args.common.agent()?;
    if args.raw {
        return raw(&agent, &args).await;
    }
    let mut options = StreamOptions::default();
    options.last_event_id.clone_from(&args.last_event_id);
    options.resume = !args.once;
    options.headers = headers(&args.headers);
    let mut events = agent.stream(&args.target, options)?;
    let mut left = args.max_events.unwrap_or(u64::MAX);
    while let Some(event) = events.next().await {
        print(line(&event?, args.json))?;
        left -= 1;
        if left == 0 {
            break;
        }
    }
    Ok(Outcome::Done)
}

async fn raw(agent: &Agent, args: &StreamArgs) -> Result<Outcome, Failure> {
    let mut headers = headers(&args.headers);
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if let Some(id) = &args.last_event_id {
        let id = HeaderValue::from_bytes(id.as_bytes())
            .map_err(|_| Failure::Usage("--last-event-id: no header can carry it".to_owned()))?;
        headers.insert(HeaderName::from_static("last-event-id"), id);
    }
    let mut answer = agent.call(Method::GET, &args.target, headers, "").await?;
    let (mut parser, mut seen) = (Parser::default(), 0);
    while let Some(chunk) = answer.chunk().await? {
        print(&chunk)?;
        if let Some(limit) = args.max_events {
            seen += parser.push(&chunk)?.len() as u64;
            if seen >= limit {
                break;
            }
        }
    }
    if answer.status().is_success() {
        return Ok(Outcome::Done);
    }
    note(&format!("the upstream answered {}", answer.status()));
    Ok(Outcome::Refused)
}

fn line(event: &Event, as_json: bool) -> String {
    if as_json {
        let object = json!({"id": event.id, "event": event.event, "data": event.data});
        return format!("{object}\n");
    }
    match event.event.as_str() {
        "message" => format!("{}\n", event.data),
        name => format!("{name}: {}\n", event.data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data_or_of_json() {
        let mut event =
            Event { id: "7".to_owned(), event: "message".to_owned(), data: "a\nb".to_owned() };
        assert_eq!(line(&event, false), "a\nb\n");
        event.event = "tick".to_owned();
        assert_eq!(line(&event, false), "tick: a\nb\n");
        assert_eq!(line(&event, true), "{\"data\":\"a\\nb\",\"event\":\"tick\",\"id\":\"7\"}\n");
    }
}

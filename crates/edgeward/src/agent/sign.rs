//! `edgeward agent sign`.

use clap::Args;
use edgeward_client::clock::{Clock as _, SystemClock};
use edgeward_client::{SignedBy, SignedRequest};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::outcome::{Failure, Outcome, note, print, print_json};
use super::request::Data;
use super::{Common, EXIT_CODES};
use crate::curl::{self, word};

const EXAMPLES: &str = "\
Examples:
  edgeward agent sign GET /v1/ping
  edgeward agent sign POST /v1/chat --content-type application/json -d '{\"stream\":true}'
  edgeward agent sign PUT /v1/report --content-type text/csv -d @report.csv --json

Nothing is sent. The signature is good for one request within the edge's window of time. Beside each
line stand the first 8 hex digits of its SHA-256: what the edge can tell an operator about a request
whose signature is wrong. The output holds a JWT and a session id: do not publish it.";

/// What the lines of the string to sign are.
const LINES: [&str; 10] = [
    "scheme",
    "audience",
    "agent_id",
    "session_id",
    "timestamp",
    "nonce",
    "method",
    "target",
    "content_type",
    "body_sha256",
];

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct SignArgs {
    /// The method, upper-case
    method: Method,
    /// Path and query, under the edge's base path
    target: String,
    /// The body: as given, `@FILE`, or `-` for stdin
    #[arg(short = 'd', long = "data", value_name = "BODY", allow_hyphen_values = true)]
    data: Option<Data>,
    /// The Content-Type that will be sent; without it none is
    #[arg(long, value_name = "TYPE")]
    content_type: Option<HeaderValue>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &SignArgs) -> Result<Outcome, Failure> {
    let agent = args.common.agent()?;
    let body = Data::read(args.data.as_ref())?;
    let mut headers = HeaderMap::new();
    headers.extend(args.content_type.clone().map(|value| (CONTENT_TYPE, value)));
    let signed = agent.sign(&args.method, &args.target, &headers, &body)?;
    let token = agent.credentials().token;
    if token.is_some_and(|token| token.expires_at_ms <= SystemClock.now_ms()) {
        note("warning: the JWT has expired; `edgeward agent session start` gets a new one");
    }
    let curl = curl::command(&signed, args.data.as_ref().map(body_argument).as_deref());
    if args.json {
        print_json(&as_json(&signed, &curl))?
    } else {
        print(as_text(&signed, &curl))?
    }
    Ok(Outcome::Done)
}

fn as_text(signed: &SignedRequest, curl: &str) -> String {
    let by = match signed.signed_by {
        SignedBy::Session => "the session's key",
        SignedBy::Secret => "the agent's secret; no session is open",
    };
    let mut text = format!("Signed by {by}.\n\n-----BEGIN STRING TO SIGN-----\n");
    let string = &signed.string_to_sign;
    for (line, hash) in string.expose().split('\n').zip(string.line_hashes()) {
        text.push_str(&format!("{hash}  {line}\n"));
    }
    text.push_str("-----END STRING TO SIGN-----\n\n");
    text.push_str(curl);
    text.push('\n');
    text
}

fn as_json(signed: &SignedRequest, curl: &str) -> Value {
    let string = &signed.string_to_sign;
    let lines: Vec<Value> = LINES
        .iter()
        .zip(string.expose().split('\n'))
        .zip(string.line_hashes())
        .map(|((name, line), hash)| json!({"name": name, "line": line, "sha256": hash}))
        .collect();
    let headers: Map<String, Value> = signed
        .headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned().into())
        })
        .collect();
    json!({
        "method": signed.method.as_str(),
        "url": signed.url,
        "headers": headers,
        "string_to_sign": string.expose(),
        "lines": lines,
        "signed_by_session": signed.signed_by == SignedBy::Session,
        "curl": curl,
    })
}

/// curl's own argument for the body.
fn body_argument(data: &Data) -> String {
    match data {
        Data::Inline(text) => format!("--data-raw {}", word(text)),
        Data::File(path) => format!("--data-binary {}", word(&format!("@{}", path.display()))),
        Data::Stdin => "--data-binary @-".to_owned(),
    }
}

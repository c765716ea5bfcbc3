//! `edgeward agent call`.

use clap::Args;
use edgeward_client::Response;
use http::Method;

use super::outcome::{Failure, Outcome, note, print};
use super::request::{Data, Header, headers};
use super::{Common, EXIT_CODES};

const EXAMPLES: &str = "\
Examples:
  edgeward agent call GET /v1/ping -i
  edgeward agent call POST /v1/chat -H 'content-type: application/json' -d '{\"stream\":false}'
  edgeward agent call PUT /v1/report -H 'content-type: text/csv' -d @report.csv
  date | edgeward agent call POST /agent/protected/echo -d -

An answer of the upstream that is not 2xx is printed as well, and the exit code is 1.";

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct CallArgs {
    /// The method, upper-case
    method: Method,
    /// Path and query, under the edge's base path
    target: String,
    /// A header, `name: value`; may stand several times
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<Header>,
    /// The body: as given, `@FILE`, or `-` for stdin
    #[arg(short = 'd', long = "data", value_name = "BODY", allow_hyphen_values = true)]
    data: Option<Data>,
    /// Print status and headers before the body
    #[arg(short = 'i', long)]
    include: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(args: CallArgs) -> Result<Outcome, Failure> {
    let agent = args.common.agent()?;
    let body = Data::read(args.data.as_ref())?;
    let mut answer = agent.call(args.method, &args.target, headers(&args.headers), body).await?;
    if args.include {
        print(head(&answer))?;
    }
    while let Some(chunk) = answer.chunk().await? {
        print(chunk)?;
    }
    if answer.status().is_success() {
        return Ok(Outcome::Done);
    }
    if !args.include {
        note(&format!("the upstream answered {}", answer.status()));
    }
    Ok(Outcome::Refused)
}

fn head(answer: &Response) -> Vec<u8> {
    let mut text = format!("{}\n", answer.status()).into_bytes();
    for (name, value) in answer.headers() {
        text.extend_from_slice(format!("{name}: ").as_bytes());
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    text.push(b'\n');
    text
}

//! `edgeward agent enroll`.

use std::fmt;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use edgeward_client::{Agent, Credentials, DeviceKey, Enrollment, KeptKey};
use edgeward_wire::{EnrollCode, FormError, OwnerId};
use serde_json::json;

use super::outcome::{Failure, Outcome, print, print_json};
use super::{Connection, EXIT_CODES};

const EXAMPLES: &str = "\
Examples:
  edgeward agent enroll --edge https://edge.example.com --code ABCD-EFGH-JKMN
  edgeward agent enroll --edge http://127.0.0.1:8600 < code.txt
  edgeward agent enroll --edge https://edge.example.com/functions/v1 --audience production \\
      --expect-owner 5f0c… --credentials /var/lib/printer/agent.json";

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct EnrollArgs {
    /// The edge, with its base path if it has one
    #[arg(long, value_name = "URL")]
    edge: String,
    /// The code; `-` or nothing reads it from stdin, and asks for it on a terminal
    #[arg(long, value_name = "CODE")]
    code: Option<CodeArg>,
    /// The deployment's audience
    #[arg(long, default_value = "edgeward")]
    audience: String,
    /// Where to keep the credentials: a new file of mode 0600
    #[arg(long, value_name = "PATH", default_value = "./edgeward-agent.json")]
    credentials: PathBuf,
    /// Replace the credentials that stand there
    #[arg(long)]
    replace: bool,
    /// Enrol only if the code is this owner's
    #[arg(long, value_name = "OWNER", value_parser = owner)]
    expect_owner: Option<OwnerId>,
    /// A name for people
    #[arg(long)]
    alias: Option<String>,
    /// What the agent runs on [default: this machine's system and processor]
    #[arg(long)]
    platform: Option<String>,
    /// Keep the device key in a file of its own, made if it is not there, instead of with the
    /// credentials
    #[arg(long, value_name = "PATH")]
    device_key: Option<PathBuf>,
    /// Enrol over plain HTTP to another machine, where the secret can be read on the way
    #[arg(long)]
    plain_http: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A code as typed; not printed.
#[derive(Clone)]
struct CodeArg(String);

impl FromStr for CodeArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for CodeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeArg(masked)")
    }
}

fn owner(text: &str) -> Result<OwnerId, FormError> {
    OwnerId::parse(text)
}

pub(super) async fn run(args: EnrollArgs) -> Result<Outcome, Failure> {
    if args.credentials.exists() && !args.replace {
        return Err(Failure::Usage(format!(
            "{} exists: this machine is enrolled; --replace enrols it anew",
            args.credentials.display()
        )));
    }
    let mut settings = args.connection.settings()?;
    settings.allow_plain_http = args.plain_http;
    let code = read_code(args.code)?;
    let mut enrollment = Enrollment::new(&args.edge, code.canonical())?;
    enrollment.audience = args.audience;
    enrollment.expect_owner = args.expect_owner;
    enrollment.alias = args.alias;
    let here = || format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    enrollment.platform = Some(args.platform.unwrap_or_else(here));
    enrollment.device_key = args.device_key.map(device_key).transpose()?;
    let agent = Agent::enroll(enrollment, &args.credentials, settings).await?;
    show(&agent.credentials(), &args.credentials, args.json)?;
    Ok(Outcome::Done)
}

/// The key in `path`, made if nothing is there. What is kept is its absolute path, since a relative
/// one would be read from where the credentials are.
fn device_key(path: PathBuf) -> Result<(DeviceKey, KeptKey), Failure> {
    let key = if path.exists() { DeviceKey::read(&path)? } else { DeviceKey::create(&path)? };
    let absolute = std::path::absolute(&path)
        .map_err(|error| Failure::File(format!("{}: {error}", path.display())))?;
    Ok((key, KeptKey::File(absolute)))
}

fn read_code(given: Option<CodeArg>) -> Result<EnrollCode, Failure> {
    let typed = match given {
        Some(CodeArg(text)) if text != "-" => text,
        Some(_) | None => ask_for_code()?,
    };
    EnrollCode::parse(typed.trim()).map_err(|error| Failure::Usage(format!("--code: {error}")))
}

fn ask_for_code() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let mut err = std::io::stderr().lock();
        // A prompt that cannot be shown takes nothing away from reading.
        let _ = write!(err, "Enrolment code: ").and_then(|()| err.flush());
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(|error| Failure::File(format!("stdin: {error}")))?;
    Ok(line)
}

fn show(credentials: &Credentials, path: &Path, as_json: bool) -> Result<(), Failure> {
    let scopes: Vec<&str> = credentials.scopes.iter().map(|scope| scope.as_str()).collect();
    if as_json {
        return print_json(&json!({
            "agent_id": credentials.agent_id,
            "owner_user_id": credentials.owner_user_id,
            "scopes": scopes,
            "secret_version": credentials.secret_version,
            "secret_expires_at_ms": credentials.secret_expires_at_ms,
            "audience": credentials.audience,
            "credentials": path,
        }));
    }
    let scopes = if scopes.is_empty() { "none".to_owned() } else { scopes.join(", ") };
    let path = path.display();
    print(format!(
        "Enrolled as {}\nOwner        {}\nScopes       {scopes}\nCredentials  {path} (readable by you only)\n\n\
         Next: edgeward agent call POST /agent/protected/echo -d hello --credentials {path}\n",
        credentials.agent_id, credentials.owner_user_id,
    ))
}

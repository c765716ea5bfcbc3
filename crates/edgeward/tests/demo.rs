//! `edgeward demo` as a newcomer runs it: the real program, its output and what it leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::fs::{self, Permissions};
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const README: &str = include_str!("../../../README.md");
/// Far beyond what a demo takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is sent in the table, and what must come back.
const REFUSALS: [(&str, &str); 9] = [
    ("no signature", "401 credentials_missing"),
    ("wrong signature", "401 signature_invalid"),
    ("replay", "401 nonce_replayed"),
    ("re-stamped time", "401 signature_invalid"),
    ("skew", "401 timestamp_outside_window"),
    ("swapped body", "401 signature_invalid"),
    ("another agent's session", "401 session_invalid"),
    ("stream, session ended", "ended after"),
    ("ended session", "401 session_invalid"),
];

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen for {PATIENCE:?}"),
    }
}

/// A demo whose temporary folder is made in `room`.
fn demo(room: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeward"));
    command.arg("demo").args(args).env("TMPDIR", room.path()).kill_on_drop(true);
    command
}

/// Whether a Postgres and a Redis may be started here.
fn with_services() -> bool {
    std::env::var_os("EDGEWARD_EMBEDDED").is_none()
}

/// A temporary folder that Postgres, too, may pass through: started by root, it is another user.
fn open_room() -> TempDir {
    let room = tempfile::tempdir().unwrap();
    fs::set_permissions(room.path(), Permissions::from_mode(0o755)).unwrap();
    room
}

/// The names of the steps in what a demo prints, in their order, and how many lines it counts.
fn steps(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("ok     "))
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.get(..24).unwrap_or(line).trim_end())
        .collect()
}

async fn run(mut command: Command) -> (Output, String) {
    let output = soon("the demo's end", command.output()).await.unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

fn is_empty(room: &Path) -> bool {
    room.read_dir().unwrap().next().is_none()
}

#[tokio::test]
async fn once_shows_every_refusal_as_it_should_be_in_plain_text_and_leaves_nothing() {
    let room = tempfile::tempdir().unwrap();
    let mut command = demo(&room, &["--once"]);
    // What is set for some edge on this machine is none of a demo's business.
    command.env("EDGE_PROFILE", "production").env("AGENT_RATELIMIT_PER_SEC", "1");
    command.env("CLICOLOR_FORCE", "1");
    let (output, text) = run(command).await;

    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    for (sent, came_back) in REFUSALS {
        let line = text.lines().find(|line| {
            line.strip_prefix("ok").is_some_and(|rest| rest.trim_start().starts_with(sent))
        });
        let line = line.unwrap_or_else(|| panic!("no line for {sent}: {text}"));
        assert!(line.contains(came_back), "{line}");
    }
    assert!(text.contains("Authentication took p50 "), "{text}");
    assert!(is_empty(room.path()));
}

#[tokio::test]
async fn for_programs_there_is_one_piece_of_json() {
    let room = tempfile::tempdir().unwrap();
    let (output, text) = run(demo(&room, &["--once", "--json"])).await;

    assert_eq!(output.status.code(), Some(0), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["ok"], true, "{text}");
    assert!(value["steps"].as_array().unwrap().iter().all(|step| step["ok"] == true), "{text}");
    let refusals = value["refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), REFUSALS.len());
    for (refusal, (sent, came_back)) in refusals.iter().zip(REFUSALS) {
        assert_eq!(refusal["sent"], sent);
        assert!(refusal["answer"].as_str().unwrap().starts_with(came_back), "{refusal}");
        assert_eq!(refusal["ok"], true, "{refusal}");
    }
    let took = &value["authentication"];
    assert!(took["admitted"].as_u64().unwrap() > 400, "{took}");
    assert!(took["p50_us"].as_u64().unwrap() > 0, "{took}");
    assert!(took["p95_us"].as_u64().unwrap() >= took["p50_us"].as_u64().unwrap(), "{took}");
}

/// A demo that is running, and its output as it comes.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// Reads on until a line holds `text`.
    async fn says(&mut self, text: &str) {
        while !self.seen.last().is_some_and(|line| line.contains(text)) {
            let line = soon(text, self.lines.next_line()).await.unwrap();
            let seen = self.seen.join("\n");
            self.seen.push(line.unwrap_or_else(|| panic!("it never said {text}: {seen}")));
        }
    }

    /// Sends a signal and waits for the end; the exit code.
    async fn stop(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().unwrap().to_string();
        shell(&format!("kill -{signal} {pid}")).await;
        while soon("the end of its output", self.lines.next_line()).await.unwrap().is_some() {}
        soon("its end", self.child.wait()).await.unwrap().code()
    }

    /// The command that begins with `start`, as it would be copied from the screen.
    fn command(&self, start: &str) -> String {
        let from = self.seen.iter().position(|line| line.starts_with(start)).unwrap();
        let lines = &self.seen[from..];
        let last = lines.iter().position(|line| !line.ends_with('\\')).unwrap();
        lines[..=last].join("\n")
    }
}

async fn shell(script: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-c", script]).kill_on_drop(true);
    let output = soon(script, command.output()).await.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_it_prints_works_as_pasted_and_ctrl_c_ends_it_without_a_trace() {
    let room = tempfile::tempdir().unwrap();
    let mut running = Running::start(demo(&room, &[]));
    running.says("until Ctrl-C").await;

    let curl = running.command("curl ");
    let answer: Value = serde_json::from_str(&shell(&curl).await).unwrap();
    assert_eq!(answer["target"], "/v1/hello");
    assert!(answer["headers"]["x-edgeward-agent-id"].is_string(), "{answer}");
    assert!(answer["headers"].get("x-signature").is_none(), "{answer}");
    let again: Value = serde_json::from_str(&shell(&curl).await).unwrap();
    assert_eq!(again["code"], "nonce_replayed", "{again}");

    let signed = running.command("A fresh one:");
    let signed = shell(signed.strip_prefix("A fresh one:").unwrap()).await;
    let fresh = &signed[signed.find("\ncurl ").unwrap()..];
    let answer: Value = serde_json::from_str(&shell(fresh).await).unwrap();
    assert_eq!(answer["target"], "/v1/hello");
    let called = running.command("Signed and sent:");
    let called = shell(called.strip_prefix("Signed and sent:").unwrap()).await;
    assert!(called.contains("x-edgeward-agent-id"), "{called}");
    let streamed = running.command("The stream:");
    let streamed = streamed.strip_prefix("The stream:").unwrap();
    let streamed = shell(&format!("{streamed} --max-events 2")).await;
    assert_eq!(streamed.lines().filter(|line| line.contains("\"n\":")).count(), 2, "{streamed}");

    assert!(!is_empty(room.path()));
    assert_eq!(running.stop("INT").await, Some(0));
    assert!(is_empty(room.path()));
}

#[tokio::test]
async fn a_demo_that_is_stopped_half_way_has_not_shown_everything_and_leaves_nothing() {
    let room = tempfile::tempdir().unwrap();
    let mut running = Running::start(demo(&room, &["--once"]));
    running.says("it opens a session").await;
    assert!(!is_empty(room.path()));
    assert_eq!(running.stop("TERM").await, Some(1));
    assert!(is_empty(room.path()));
}

#[tokio::test]
async fn wrong_usage_starts_nothing() {
    let room = tempfile::tempdir().unwrap();
    for args in [&["--listen", "0.0.0.0:0"][..], &["--listen", "8600"], &["--json"]] {
        let (output, text) = run(demo(&room, args)).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text, "");
    }
    assert!(is_empty(room.path()));
}

#[tokio::test]
async fn an_address_that_is_taken_fails_with_a_line_that_says_so() {
    let room = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (output, text) = run(demo(&room, &["--once", "--listen", &address])).await;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("FAILED the edge"), "{text}");
    assert!(text.contains("cannot be bound"), "{text}");
    assert!(is_empty(room.path()));
}

#[tokio::test]
async fn three_edges_act_as_one_line_by_line_as_the_readme_shows_and_nothing_is_left() {
    if !with_services() {
        return;
    }
    let room = open_room();
    let (output, text) = run(demo(&room, &["--cluster", "--once"])).await;

    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(!text.contains("FAILED"), "{text}");
    for (step, found) in [
        ("calls in turn", "100 at each edge"),
        ("a replay elsewhere", "401 nonce_replayed at edge 2 and edge 3"),
        ("the same bytes at once", "one passed each time"),
        ("a session's end", "its stream at edge 3 was cut"),
        ("agents block", "all refuse"),
        ("Redis killed", "each 503"),
        ("Redis back, empty", "none passed"),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("ok     {step} ")));
        assert!(line.is_some_and(|line| line.contains(found)), "{step}: {text}");
    }
    for (sent, came_back) in REFUSALS {
        let line = text.lines().find(|line| line.starts_with(&format!("ok      {sent} ")));
        assert!(line.is_some_and(|line| line.contains(came_back)), "{sent}: {text}");
    }
    let page = README.split("```").find(|block| block.contains("its session elsewhere")).unwrap();
    assert!(steps(page).len() > 15, "{page}");
    assert_eq!(steps(page), steps(&text));
    assert!(is_empty(room.path()));
}

#[tokio::test]
async fn three_edges_that_are_stopped_while_redis_is_down_leave_nothing() {
    if !with_services() {
        return;
    }
    let room = open_room();
    let mut running = Running::start(demo(&room, &["--cluster", "--once"]));
    running.says("Redis killed").await;
    assert!(!is_empty(room.path()));
    assert_eq!(running.stop("TERM").await, Some(1), "{:?}", running.seen);
    assert!(is_empty(room.path()));
}

#[tokio::test]
async fn a_program_that_is_missing_is_named_with_its_package() {
    let room = tempfile::tempdir().unwrap();
    let mut command = demo(&room, &["--cluster", "--once"]);
    command.env("PATH", room.path());
    let (output, text) = run(command).await;
    assert_eq!(output.status.code(), Some(1), "{text}");
    let failed = text.lines().find(|line| line.starts_with("FAILED")).unwrap();
    assert!(failed.contains("redis-server is not here: install Debian's redis-server"), "{text}");
    assert!(is_empty(room.path()));
}

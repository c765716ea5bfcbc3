//! `edgeward agents block`, `unblock` and `retire` against a running edge, and against none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::process::{Output, Stdio};
use std::sync::Arc;

use edgeward_edge::clock::SystemClock;
use edgeward_sqlite::SqliteStore;
use edgeward_store::EventKind;
use edgeward_store::durable::Events as _;
use edgeward_testkit::{Door, Upstream, owner, soon};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

const NOBODY: &str = "0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f";

/// An edge in a process of its own, and the folder of all that is kept.
struct Stage {
    folder: TempDir,
    upstream: Upstream,
    edge: Child,
    url: String,
}

impl Stage {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let route = format!("[[routes]]\nmatch = \"/v1/\"\nupstream = [{:?}]\n", upstream.url());
        std::fs::write(folder.path().join("edgeward.toml"), route).unwrap();
        let mut edge = command(&folder)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--config", "edgeward.toml", "--data-dir", "data"])
            .env("OWNER_JWT_SECRET", owner::SECRET)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(edge.stdout.take().unwrap()).lines();
        let url = soon("the edge listening", async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the edge has ended");
                if let Some(url) = line.strip_prefix("listening on ") {
                    break url.trim().to_owned();
                }
            }
        });
        let url = url.await;
        Self { folder, upstream, edge, url }
    }

    /// Enrols an agent from the command line; its id.
    async fn enroll(&self) -> String {
        let door = Door {
            address: self.url.strip_prefix("http://").unwrap().parse().unwrap(),
            base_path: String::new(),
            clock: Arc::new(SystemClock::new()),
        };
        let jwt = door.owner_jwt("owner-1", &[]);
        let started: Value =
            door.enroll_start(Some(&jwt), json!({"alias": "test"})).await.expect(200).json();
        let code = started["enroll_code"].as_str().unwrap();
        let enrolled = self
            .run(&["agent", "enroll", "--edge", &self.url, "--code", code, "--json"])
            .await
            .ends_with(0);
        let enrolled: Value = serde_json::from_str(&enrolled.out).unwrap();
        enrolled["agent_id"].as_str().unwrap().to_owned()
    }

    async fn run(&self, args: &[&str]) -> Ended {
        let output = command(&self.folder).args(args).output();
        Ended::of(args, soon("the end of a command", output).await.unwrap())
    }

    /// `edgeward agents …`, at this edge.
    async fn agents(&self, args: &[&str]) -> Ended {
        self.run(&[&["agents"], args, &["--data-dir", "data"]].concat()).await
    }

    async fn call(&self) -> Ended {
        self.run(&["agent", "call", "GET", "/v1/ping"]).await
    }
}

fn command(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeward"));
    command.current_dir(folder.path()).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What a command has said, and how it ended.
#[derive(Debug)]
struct Ended {
    args: String,
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn of(args: &[&str], output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        Self { args: args.join(" "), code: output.status.code(), out, err }
    }

    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        let Self { args, out, err, .. } = &self;
        assert_eq!(self.code, Some(code), "edgeward {args}\n{out}\n{err}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

#[tokio::test]
async fn a_blocked_agent_is_out_until_it_is_unblocked_and_a_retired_one_for_good() {
    let mut stage = Stage::set().await;
    let id = stage.enroll().await;
    stage.call().await.ends_with(0);

    let mut follower = command(&stage.folder)
        .args(["agent", "stream", "/v1/events", "--once"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stream = stage.upstream.next_stream().await;
    stream.event("tick").await;
    let mut followed = BufReader::new(follower.stdout.take().unwrap());
    let mut line = String::new();
    soon("an event", followed.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "tick\n");

    // One that is not there takes nothing away from the others.
    let blocked =
        stage.agents(&["block", NOBODY, &id, "--reason", "stolen, ticket 7"]).await.ends_with(1);
    assert_eq!(blocked.out, format!("{id}  blocked, epoch 2, streams cut: 1\n"));
    assert_eq!(blocked.err, format!("error: {NOBODY}: There is no such agent\n"));
    soon("the stream's end", followed.read_to_string(&mut line)).await.unwrap();
    soon("the follower's end", follower.wait()).await.unwrap();
    stream.gone().await;

    let served = stage.upstream.count();
    let refused = stage.call().await.ends_with(1);
    assert!(refused.err.contains("agent_blocked"), "{refused:#?}");
    let again = stage.agents(&["block", &id, "--json"]).await.ends_with(0).json();
    let stands = json!([{
        "agent_id": id, "standing": "blocked", "epoch": 2, "changed": false, "streams_cut": 0
    }]);
    assert_eq!(again, stands);
    assert_eq!(stage.upstream.count(), served);

    let unblocked = stage.agents(&["unblock", &id]).await.ends_with(0);
    assert_eq!(unblocked.out, format!("{id}  active, epoch 3, streams cut: 0\n"));
    stage.call().await.ends_with(0);

    let careless = stage.agents(&["retire", &id]).await.ends_with(2);
    assert!(careless.err.contains("--destructive"), "{careless:#?}");
    stage.call().await.ends_with(0);
    let retired = stage.agents(&["retire", &id, "--destructive"]).await.ends_with(0);
    assert_eq!(retired.out, format!("{id}  retired, epoch 4, streams cut: 0\n"));
    stage.call().await.ends_with(1);
    let final_one = stage.agents(&["unblock", &id, "--json"]).await.ends_with(1).json();
    assert_eq!(final_one[0]["agent_id"], id.as_str());
    assert_eq!(final_one[0]["error"]["code"], "agent_retired");
    stage.call().await.ends_with(1);

    stage.edge.kill().await.unwrap();
    assert_written(&stage).await;
}

/// Each act with who asked for it and why; what changed nothing is no act.
async fn assert_written(stage: &Stage) {
    let path = stage.folder.path().join("data/edgeward.db");
    let store = SqliteStore::open(&path, "test").await.unwrap();
    let events = store.newest_events(100).await.unwrap();
    let acts = events.iter().rev().filter(|event| {
        matches!(
            event.kind,
            EventKind::AgentBlocked | EventKind::AgentUnblocked | EventKind::AgentRetired
        )
    });
    let acts: Vec<_> = acts.map(|act| (act.kind, act.payload.get("reason").cloned())).collect();
    let written = [
        (EventKind::AgentBlocked, Some(json!("stolen, ticket 7"))),
        (EventKind::AgentUnblocked, Some(Value::Null)),
        (EventKind::AgentRetired, Some(Value::Null)),
    ];
    assert_eq!(acts, written);
    let blocked = events.iter().find(|event| event.kind == EventKind::AgentBlocked).unwrap();
    assert!(blocked.payload["actor"].as_str().unwrap().starts_with("uid:"), "{blocked:?}");
}

#[tokio::test]
async fn a_reason_that_the_edge_refuses_changes_nothing() {
    let stage = Stage::set().await;
    let id = stage.enroll().await;
    let refused = stage.agents(&["block", &id, "--reason", &"x".repeat(501)]).await.ends_with(1);
    assert!(refused.err.contains("500 characters"), "{refused:#?}");
    stage.call().await.ends_with(0);
}

#[tokio::test]
async fn without_an_edge_the_command_says_where_to_run_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |args: &[&str]| {
        let output = command(&folder).args(args).args(["--data-dir", "data"]).output();
        Ended::of(args, soon("the end of a command", output).await.unwrap())
    };
    let other = NOBODY.replace("0192", "0193");
    let nobody = run(&["agents", "block", NOBODY, &other]).await.ends_with(3);
    assert!(
        nobody.err.contains("admin.sock") && nobody.err.contains("EDGE_DATA_DIR"),
        "{nobody:?}"
    );
    assert!(nobody.err.contains(&format!("{other}: not asked for")), "{nobody:?}");
    let nobody = run(&["agents", "block", NOBODY, &other, "--json"]).await.ends_with(3).json();
    assert_eq!(nobody[0]["error"]["code"], "unreached");
    assert_eq!(nobody[1]["error"]["code"], "not_asked");

    let malformed = run(&["agents", "block", "ME"]).await.ends_with(2);
    assert!(malformed.err.contains("lower-case hyphenated UUID"), "{malformed:?}");
    run(&["agents", "block"]).await.ends_with(2);
}

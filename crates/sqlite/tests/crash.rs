//! A process that is killed at any moment loses nothing that it has confirmed.
//!
//! This test starts itself again as the process to kill: it enrols agents and writes marks in a
//! loop, and prints a line for each that is confirmed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use edgeward_core::time::WallMs;
use edgeward_sqlite::SqliteStore;
use edgeward_store::conformance::Seeds;
use edgeward_store::durable::{
    Agents as _, Continuity as _, Enrollments as _, Events as _, LastRun, Redeemed, Sealed,
};
use edgeward_store::{Event, EventKind};

const DATABASE: &str = "EDGEWARD_TEST_CRASH_DATABASE";
const ROUNDS: u64 = 12;
/// Numbers that a round may use.
const SPAN: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_outlives_a_kill() {
    if let Some(database) = std::env::var_os(DATABASE) {
        write_until_killed(Path::new(&database)).await;
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let mut confirmed = Confirmed::default();
    for round in 0..ROUNDS {
        let mut victim = Victim::start(&path, round);
        // The first lines, then another number of them each round, so that the kill falls into
        // different places; what is on its way in the pipe by then counts as well.
        let lines = 1 + (round * 7919) % 40;
        for _ in 0..lines {
            confirmed.note(&victim.next_line());
        }
        victim.child.kill().unwrap();
        victim.child.wait().unwrap();
        while let Some(line) = victim.rest() {
            confirmed.note(&line);
        }
        check(&path, &confirmed).await;
    }
    assert!(confirmed.agents.len() as u64 >= ROUNDS, "{confirmed:?}");
}

/// What the victims have said.
#[derive(Debug, Default)]
struct Confirmed {
    codes: BTreeSet<u64>,
    agents: BTreeSet<u64>,
    mark: Option<u64>,
}

impl Confirmed {
    fn note(&mut self, line: &str) {
        // A line that the kill cut short confirms nothing; others are the test harness's.
        let Some((word, number)) = line.strip_suffix(" .").and_then(|line| line.split_once(' '))
        else {
            return;
        };
        let number = number.parse().unwrap();
        match word {
            "code" => drop(self.codes.insert(number)),
            "agent" => drop(self.agents.insert(number)),
            "mark" => self.mark = Some(number),
            other => panic!("{other} {number}"),
        }
    }
}

async fn check(path: &Path, confirmed: &Confirmed) {
    let store = SqliteStore::open(path, "parent").await.unwrap();
    let events = store.newest_events(u32::MAX).await.unwrap();
    let told = |kind: EventKind| -> BTreeSet<u64> {
        events.iter().filter(|event| event.kind == kind).map(number_of).collect()
    };
    let (started, completed) =
        (told(EventKind::AgentEnrollStarted), told(EventKind::AgentEnrollCompleted));
    assert!(started.is_superset(&confirmed.codes), "a confirmed code is lost");
    assert!(completed.is_superset(&confirmed.agents), "a confirmed agent is lost");
    // Whatever is told of stands, and whatever stands is told of.
    for number in &started {
        let live = store.live_enrollment(&Seeds::code(*number), Seeds::now()).await.unwrap();
        assert_eq!(live.is_none(), completed.contains(number), "code {number}");
        let agent = store.agent(Seeds::agent(*number, 1).id).await.unwrap();
        assert_eq!(agent.is_some(), completed.contains(number), "agent {number}");
        assert!(agent.is_none_or(|agent| agent.secrets.len() == 1), "agent {number}");
    }
    let owner = Seeds::enrollment(1, "owner").owner;
    assert_eq!(store.count_agents(&owner).await, Ok(completed.len() as u64));
    let last = store.begin_run().await.unwrap();
    let LastRun::Unclean { mark } = last else { panic!("{last:?} after a kill") };
    assert!(mark.0 >= confirmed.mark.unwrap(), "the mark went back to {mark:?}");
    store.close().await;
}

fn number_of(event: &Event) -> u64 {
    event.payload["code"].as_u64().unwrap()
}

struct Victim {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Victim {
    fn start(path: &Path, round: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_confirmed_outlives_a_kill", "--nocapture"])
            .env(DATABASE, path)
            .env("EDGEWARD_TEST_CRASH_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that confirms something.
    fn next_line(&mut self) -> String {
        loop {
            let line = self.rest().expect("the process ended by itself");
            if line.ends_with(" .") {
                return line;
            }
        }
    }

    fn rest(&mut self) -> Option<String> {
        self.lines.next().and_then(Result::ok)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn write_until_killed(path: &Path) {
    let round: u64 = std::env::var("EDGEWARD_TEST_CRASH_ROUND").unwrap().parse().unwrap();
    let store = SqliteStore::open(path, "victim").await.unwrap();
    // The harness has begun a line.
    println!();
    // A clean stop before must not hide the kill after it.
    store.end_run(Sealed(vec![1; 100])).await.unwrap();
    assert!(matches!(store.begin_run().await.unwrap(), LastRun::Clean { .. }));
    for number in round * SPAN..(round + 1) * SPAN {
        store.write_mark(WallMs(number)).await.unwrap();
        say("mark", number);
        let row = Seeds::enrollment(number, "owner");
        store.start_enrollment(row, named(Seeds::started(number), number)).await.unwrap();
        say("code", number);
        let (agent, event) = (Seeds::agent(number, 1), named(Seeds::completed(number), number));
        let code = Seeds::code(number);
        let answer = store.redeem_code(&code, agent, None, event, Seeds::now()).await.unwrap();
        assert!(matches!(answer, Redeemed::Done { .. }));
        say("agent", number);
    }
}

fn named(mut event: Event, number: u64) -> Event {
    event.payload.insert("code".into(), number.into());
    event
}

fn say(word: &str, number: u64) {
    // The end of the line shows that it is whole.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{word} {number} .\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

//! Agents that send without a pause, somebody who keeps every byte and sends it again, and what comes
//! of both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgeward_testkit::upstream::Recorded;
use edgeward_testkit::{Agent, Answer, AsDoor as _, Conn, Door, Piece, Upstream, eventually};
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::node::Node;

/// What an honest agent may be told while a store is away or its memory was lost: to sign again. The
/// last one is for a stamp from under a floor that passes just then.
const HONEST: [&str; 3] = ["dependency_unavailable", "starting", "timestamp_outside_window"];

/// Whether the answer is one that an honest agent signs again after.
pub(crate) fn is_to_sign_again(answer: &Answer) -> bool {
    answer.code().is_some_and(|code| HONEST.contains(&code))
}

/// An agent's pause between two requests: the machine has other things to do.
const PAUSE: Duration = Duration::from_millis(8);
/// How many replays are on their way at once, each to every node.
const AT_ONCE: usize = 4;

/// What targets begin with that the upstream must get once.
const ONCE: &str = "/v1/once/";

/// The bytes of requests that passed.
type Kept = Arc<Mutex<Vec<Arc<[u8]>>>>;

/// Agents that send to nodes, each agent to each node.
pub(crate) struct Load {
    doors: Vec<Door>,
    kept: Kept,
    /// How often each agent was let in at each node, the nodes of the first agent first.
    accepted: Vec<Arc<AtomicU64>>,
    running: JoinSet<Duration>,
    stop: CancellationToken,
}

impl Load {
    /// Begins. Every other agent stamps its requests as far ahead as nodes take them, which is
    /// `ahead_ms`.
    pub(crate) fn start(nodes: &[Node], agents: &[Agent], ahead_ms: i64) -> Self {
        let mut load = Self {
            doors: doors(nodes),
            kept: Kept::default(),
            accepted: Vec::new(),
            running: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        for (place, agent) in agents.iter().enumerate() {
            for door in load.doors.clone() {
                let caller = Caller {
                    line: Line::to(door),
                    agent: agent.clone(),
                    ahead_ms: if place % 2 == 0 { 0 } else { ahead_ms - 20 },
                    kept: Arc::clone(&load.kept),
                    accepted: Arc::default(),
                };
                load.accepted.push(Arc::clone(&caller.accepted));
                load.running.spawn(caller.run(load.stop.clone()));
            }
        }
        load
    }

    /// Waits until every agent was let in so many times more at every node.
    pub(crate) async fn goes_on(&self, times: u64) {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let goals: Vec<_> =
            self.accepted.iter().map(|count| (count, read(count) + times)).collect();
        eventually("requests that are let in", async || {
            goals.iter().all(|(count, goal)| read(count) >= *goal)
        })
        .await;
    }

    /// How often all were let in at a node so far.
    pub(crate) fn accepted_at(&self, node: usize) -> u64 {
        let of_node = self.accepted.iter().skip(node).step_by(self.doors.len());
        of_node.map(|count| count.load(Ordering::SeqCst)).sum()
    }

    /// Sends what has passed again and again to every node, every other time one of the newest, until it is told to stop.
    pub(crate) fn attack(&self) -> Attack {
        let (stop, turn) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        for _ in 0..AT_ONCE {
            let mut lines = lines(&self.doors);
            let (kept, turn, stop) = (Arc::clone(&self.kept), Arc::clone(&turn), stop.clone());
            running.spawn(async move {
                let mut replays = Replays::default();
                while !stop.is_cancelled() {
                    let turn = turn.fetch_add(1, Ordering::SeqCst);
                    let bytes = {
                        let kept = kept.lock().unwrap();
                        Arc::clone(&kept[whose_turn(turn, kept.len())])
                    };
                    if !replays.send(&bytes, &mut lines).await {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                replays
            });
        }
        Attack { running, stop }
    }

    /// Stops the agents: what has passed in all, and the longest time without success of an agent
    /// that stamps its requests by its clock.
    pub(crate) async fn end(mut self) -> (Vec<Arc<[u8]>>, Duration) {
        self.stop.cancel();
        let mut longest = Duration::ZERO;
        while let Some(ended) = self.running.join_next().await {
            longest = longest.max(ended.unwrap());
        }
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        (kept, longest)
    }
}

/// One agent at one node.
struct Caller {
    line: Line,
    agent: Agent,
    ahead_ms: i64,
    kept: Kept,
    accepted: Arc<AtomicU64>,
}

impl Caller {
    /// The longest time from a refusal to the next success, for one that stamps by its clock.
    async fn run(mut self, stop: CancellationToken) -> Duration {
        let (mut refused_since, mut longest) = (None, Duration::ZERO);
        while !stop.is_cancelled() {
            let since = Instant::now();
            let request = self.agent.signed("GET", &target()).timestamp_offset_ms(self.ahead_ms);
            let bytes = request.build();
            match self.line.exchange(&bytes).await {
                Some(answer) if answer.status() == 200 => {
                    self.kept.lock().unwrap().push(bytes.into());
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    if let Some(refused) = refused_since.take() {
                        longest = longest.max(Instant::now() - refused);
                    }
                }
                Some(answer) => {
                    let code = answer.code().unwrap_or_default();
                    assert!(HONEST.contains(&code), "an honest request: {answer:?}");
                    refused_since = refused_since.or(Some(since));
                }
                None => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        if self.ahead_ms == 0 { longest } else { Duration::ZERO }
    }
}

/// A target that no other request of this process has: the upstream counts by it.
fn target() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{ONCE}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn whose_turn(turn: usize, of: usize) -> usize {
    let (round, newest) = (turn / 2, turn % 2 == 1);
    if newest { of - 1 - round % of.min(64) } else { round % of }
}

/// Replays on their way.
pub(crate) struct Attack {
    running: JoinSet<Replays>,
    stop: CancellationToken,
}

impl Attack {
    pub(crate) async fn end(mut self) -> Replays {
        self.stop.cancel();
        let mut all = Replays::default();
        while let Some(ended) = self.running.join_next().await {
            all.extend(ended.unwrap());
        }
        all
    }
}

/// What became of replays.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    /// How many were answered.
    pub(crate) answered: usize,
    /// How many passed, which is how many too many.
    pub(crate) passed: usize,
    by_code: BTreeMap<String, usize>,
}

impl Replays {
    /// Each of these once to every node, as fast as it goes.
    pub(crate) async fn of(kept: &[Arc<[u8]>], nodes: &[Node]) -> Self {
        let doors = doors(nodes);
        let share = kept.len().div_ceil(AT_ONCE).max(1);
        let parts = kept.chunks(share).map(async |part| {
            let (mut replays, mut lines) = (Self::default(), lines(&doors));
            for bytes in part {
                replays.send(bytes, &mut lines).await;
            }
            replays
        });
        let mut all = Self::default();
        join_all(parts).await.into_iter().for_each(|part| all.extend(part));
        all
    }

    /// To every node at once; whether any of them could decide.
    async fn send(&mut self, bytes: &[u8], lines: &mut [Line]) -> bool {
        let answers = join_all(lines.iter_mut().map(|line| line.exchange(bytes))).await;
        let mut decided = false;
        for answer in answers.into_iter().flatten() {
            self.answered += 1;
            if answer.status() == 200 {
                self.passed += 1;
                decided = true;
                continue;
            }
            let code = answer.code().unwrap_or_default();
            let known = code == "nonce_replayed" || HONEST.contains(&code);
            assert!(known, "a replay: {answer:?}");
            decided |= code != "dependency_unavailable";
            *self.by_code.entry(code.to_owned()).or_default() += 1;
        }
        decided
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.answered += other.answered;
        self.passed += other.passed;
        for (code, count) in other.by_code {
            *self.by_code.entry(code).or_default() += count;
        }
    }
}

impl fmt::Display for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} replays, {} passed", self.answered, self.passed)?;
        self.by_code.iter().try_for_each(|(code, count)| write!(f, ", {code} {count}"))
    }
}

/// How many requests that must come once the upstream has got more often, of all that have come since
/// it was asked last.
pub(crate) fn doubles(upstream: &Upstream) -> usize {
    let mut counts = BTreeMap::<String, usize>::new();
    let once = |target: &String| target.starts_with(ONCE);
    for target in upstream.take().iter().map(Recorded::target).filter(once) {
        *counts.entry(target).or_default() += 1;
    }
    counts.values().filter(|count| **count > 1).count()
}

fn doors(nodes: &[Node]) -> Vec<Door> {
    nodes.iter().map(|node| node.door()).collect()
}

fn lines(doors: &[Door]) -> Vec<Line> {
    doors.iter().cloned().map(Line::to).collect()
}

/// A connection that is kept as long as the node keeps it.
struct Line {
    door: Door,
    conn: Option<Conn>,
}

impl Line {
    fn to(door: Door) -> Self {
        Self { door, conn: None }
    }

    /// `None` when the connection ended instead of an answer.
    async fn exchange(&mut self, bytes: &[u8]) -> Option<Answer> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.door.connect().await,
        };
        if !conn.try_send(bytes).await {
            return None;
        }
        let head = conn.try_head().await?;
        let mut body = Vec::new();
        loop {
            match conn.piece().await {
                Piece::Data(bytes) => body.extend(bytes),
                Piece::End => break,
                Piece::Broken => return None,
            }
        }
        self.conn = Some(conn);
        Some(Answer { head, body })
    }
}

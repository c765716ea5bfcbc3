//! What a request asks of Redis, as Redis itself saw it.

use std::net::SocketAddr;

use edgeward_testkit::{Agent, Session, soon};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::node::Node;
use crate::pushes::PATIENCE_MS;
use crate::scene::{Scene, Shared};
use crate::times::{proof, rounds};

/// A connection on which Redis shows every command that it is given (`MONITOR`).
struct Monitor {
    lines: Lines<BufReader<OwnedReadHalf>>,
    /// Redis closes its side when this one is closed.
    _write: OwnedWriteHalf,
    marks: usize,
    redis: SocketAddr,
}

/// What clients sent in a while; what scripts do is not among it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Claims with a nonce: the one script that has a nonce among its keys.
    claims: usize,
    /// Sessions that were read.
    reads: usize,
    /// Charges of rates, which nodes send by the way, usually one in 50 ms.
    charges: usize,
    /// The node's own beat: who the server is, what it shows, and the canary.
    beat: usize,
    /// Anything else.
    other: Vec<String>,
}

impl Monitor {
    async fn of(redis: SocketAddr) -> Self {
        let stream = TcpStream::connect(redis).await.unwrap();
        let (read, mut write) = stream.into_split();
        write.write_all(b"MONITOR\r\n").await.unwrap();
        let mut lines = BufReader::new(read).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "+OK");
        Self { lines, _write: write, marks: 0, redis }
    }

    /// All that clients have sent since the last time, or since the beginning.
    async fn seen(&mut self) -> Seen {
        self.marks += 1;
        let mark = format!("mark {}", self.marks);
        // A client of its own marks the place up to which to read.
        let mut marker = TcpStream::connect(self.redis).await.unwrap();
        marker.write_all(format!("ECHO \"{mark}\"\r\n").as_bytes()).await.unwrap();
        let mut seen = Seen::default();
        loop {
            let line = soon("a line of MONITOR", self.lines.next_line()).await.unwrap().unwrap();
            if line.contains(&mark) {
                return seen;
            }
            // `+<time> [<db> <address>|lua] "<command>" "<argument>" …`
            let (head, words) = line.split_once("] ").unwrap();
            if !head.ends_with(" lua") {
                seen.add(words);
            }
        }
    }
}

impl Seen {
    fn add(&mut self, words: &str) {
        let command = words.split('"').nth(1).unwrap().to_ascii_lowercase();
        let nonce = words.contains("\"edgeward:n:{");
        let session = words.contains("\"edgeward:s:{");
        let rate = words.contains("\"edgeward:r:{");
        let count = match command.as_str() {
            "evalsha" | "eval" if nonce => &mut self.claims,
            "evalsha" | "eval" if rate => &mut self.charges,
            "get" if session => &mut self.reads,
            "info" | "time" => &mut self.beat,
            "set" if words.contains("\"edgeward:p:") => &mut self.beat,
            _ => return self.other.push(words.to_owned()),
        };
        *count += 1;
    }
}

async fn ask(agent: &Agent, session: &Session, node: &Node, with_nonce: bool) {
    let request = agent.signed("GET", "/v1/x").in_session(session);
    let request = if with_nonce { request } else { request.no_nonce() };
    request.send(node).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_asks_redis_once_with_a_nonce_and_not_at_all_without() {
    let patient = |plan: crate::node::Plan| plan.set("EDGE_REDIS_TIMEOUT_MS", PATIENCE_MS);
    let scene = Scene::start(2, Shared::single(), patient).await;
    let agent = scene.agent().await;
    let session = agent.session(&scene.nodes[0]).await;
    let mut monitor = Monitor::of(scene.shared.redis().address()).await;
    let node = &scene.nodes[1];

    // The first in a session that another node began reads it, once.
    ask(&agent, &session, node, true).await;
    let first = monitor.seen().await;
    assert_eq!((first.claims, first.reads, first.other.len()), (1, 1, 0), "{first:?}");

    let rounds = rounds(500);
    for with_nonce in [true, false] {
        let since = tokio::time::Instant::now();
        for _ in 0..rounds {
            ask(&agent, &session, node, with_nonce).await;
        }
        let seen = monitor.seen().await;
        let took = since.elapsed();
        let name = if with_nonce { "with a nonce" } else { "without a nonce" };
        let Seen { claims, reads, charges, beat, ref other } = seen;
        proof(
            &format!("{rounds} requests {name}, as Redis saw them"),
            format!(
                "{claims} script calls that a request waits for; by the way, in {} ms, {charges} charges of rates, {reads} sessions read again, {beat} commands of the nodes' beat",
                took.as_millis()
            ),
        );
        assert_eq!(claims, if with_nonce { rounds } else { 0 }, "{other:?}");
        assert_eq!(other, &Vec::<String>::new());
        // A copy of a session is read again after 2 s, without anybody waiting.
        assert!(reads as u128 <= 1 + took.as_millis() / 2_000, "{reads} in {took:?}");
        let by_time = 2 + took.as_millis() / 25;
        assert!(charges as u128 <= if with_nonce { 1 } else { by_time }, "{charges} in {took:?}");
    }
}

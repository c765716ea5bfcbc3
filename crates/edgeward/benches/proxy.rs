//! The whole edge against a bare proxy of the same HTTP library, in one run.
//!
//! `cargo bench -p edgeward --bench proxy` (with `-- --rounds 7 --requests 20000` to change it, and
//! `--embedded` to leave out the edge over Postgres and Redis, which are started for it)
//!
//! Proxy and edge are processes of their own, each pinned to core 0 where `taskset` is there; load and
//! upstream share the rest. Rounds are interleaved; figures are medians. CPU time is the kernel's,
//! user and system, of the process under test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and may fail loudly"
)]

mod support;

use edgeward_postgres::{DatabaseUrl, SchemaName};
use edgeward_services::{Postgres, Redis, RedisOptions};
use support::fleet::Fleet;
use support::process::Process;
use support::{bare, load, upstream};

const CONNECTIONS: usize = 64;

struct Plan {
    rounds: usize,
    requests: usize,
    agents: usize,
    /// Whether the edge over Postgres and Redis is measured as well.
    shared: bool,
}

/// An edge over Postgres and Redis, with its agents.
struct Shared {
    edge: Process,
    fleet: Fleet,
    _redis: Redis,
}

impl Shared {
    async fn start(upstream: &str, agents: usize) -> Self {
        let postgres = Postgres::shared().unwrap();
        let database = postgres.fresh_database().unwrap();
        let url = DatabaseUrl::new(database.clone());
        edgeward_postgres::migrate(&url, &SchemaName::default()).await.unwrap();
        postgres.psql(&database, "ALTER ROLE edgeward_edge PASSWORD 'bench'").unwrap();
        let name = database.rsplit('/').next().unwrap();
        let redis = Redis::start(RedisOptions::default()).unwrap();
        let stores = [
            ("EDGE_DATABASE_URL", postgres.url_for("edgeward_edge", "bench", name)),
            ("EDGE_REDIS_URL", redis.url()),
        ];
        let edge = Process::edge(upstream, &stores).await;
        let fleet = Fleet::enrol(&edge.address, agents).await;
        Self { edge, fleet, _redis: redis }
    }
}

#[derive(Clone, Copy)]
struct Figure {
    cpu_us: f64,
    per_sec: f64,
    p50_us: f64,
    p99_us: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--bare") {
        return bare::run(&args[at + 1]);
    }
    let number = |name: &str, default: usize| {
        args.iter().position(|arg| arg == name).map_or(default, |at| args[at + 1].parse().unwrap())
    };
    let plan = Plan {
        rounds: number("--rounds", 7),
        requests: number("--requests", 20_000),
        agents: number("--agents", 1_000),
        shared: !args.iter().any(|arg| arg == "--embedded"),
    };
    support::process::pin_self();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(compare(&plan));
}

async fn compare(plan: &Plan) {
    let upstream = upstream::start().await;
    let bare = Process::bare(&upstream).await;
    let edge = Process::edge(&upstream, &[]).await;
    let fleet = Fleet::enrol(&edge.address, plan.agents).await;
    let shared = match plan.shared {
        true => Some(Shared::start(&upstream, plan.agents).await),
        false => None,
    };
    println!(
        "{} agents, {CONNECTIONS} connections, {} requests a round, medians of {} rounds, {}",
        plan.agents,
        plan.requests,
        plan.rounds,
        if edge.pinned { "pinned to core 0" } else { "not pinned" }
    );
    for (name, size) in [("200 B POST", 200), ("10 KB POST", 10_000)] {
        let (mut of_bare, mut of_edge, mut of_wrong) = (Vec::new(), Vec::new(), Vec::new());
        let mut of_shared = Vec::new();
        for _ in 0..plan.rounds {
            of_bare.push(measure(&bare, fleet.signed(plan.requests, size), 200).await);
            of_edge.push(measure(&edge, fleet.signed(plan.requests, size), 200).await);
            if let Some(shared) = &shared {
                let requests = shared.fleet.signed(plan.requests, size);
                of_shared.push(measure(&shared.edge, requests, 200).await);
            }
            of_wrong.push(measure(&edge, fleet.wrong(plan.requests / 2, size), 401).await);
        }
        let bare = median(&of_bare);
        println!("\n{name}");
        print("bare proxy", bare, bare);
        print("edge, every check", median(&of_edge), bare);
        if !of_shared.is_empty() {
            print("edge over Redis", median(&of_shared), bare);
        }
        print("edge, wrong signature", median(&of_wrong), bare);
    }
}

async fn measure(process: &Process, requests: Vec<Vec<u8>>, expected: u16) -> Figure {
    let count = requests.len() as f64;
    let before = process.cpu_ns();
    let mut run = load::run(&process.address, requests, CONNECTIONS, expected).await;
    let cpu_us = (process.cpu_ns() - before) as f64 / 1000.0 / count;
    run.latencies_us.sort_by(f64::total_cmp);
    let at = |share: f64| run.latencies_us[((run.latencies_us.len() - 1) as f64 * share) as usize];
    Figure { cpu_us, per_sec: count / run.seconds, p50_us: at(0.5), p99_us: at(0.99) }
}

fn median(figures: &[Figure]) -> Figure {
    let of = |pick: fn(&Figure) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figure {
        cpu_us: of(|figure| figure.cpu_us),
        per_sec: of(|figure| figure.per_sec),
        p50_us: of(|figure| figure.p50_us),
        p99_us: of(|figure| figure.p99_us),
    }
}

fn print(name: &str, figure: Figure, bare: Figure) {
    println!(
        "  {name:<22} {:6.1} CPU µs/request (ratio {:4.2})  {:7.0} requests/s (ratio {:4.2})  p50 {:6.0} µs  p99 {:6.0} µs",
        figure.cpu_us,
        figure.cpu_us / bare.cpu_us,
        figure.per_sec,
        figure.per_sec / bare.per_sec,
        figure.p50_us,
        figure.p99_us,
    );
}

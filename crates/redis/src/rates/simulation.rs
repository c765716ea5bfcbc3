//! Nodes and a server in one loop, where time is a number: how much more than the rate is granted.

use std::sync::Arc;

use edgeward_core::limit::gcra::Rate;
use edgeward_core::nonce::Claim;
use edgeward_core::time::{MonoMs, WallMs};
use edgeward_store::conformance::Forge;

use super::tests::START_MS;
use super::{Batch, Ledger, Local, State};

const RUN_MS: u64 = 10_000;
const FLUSH_MS: u64 = 50;
const ONE_WAY_MS: u64 = 2;

struct Node {
    ledger: Arc<Ledger>,
    flushes_at: u64,
    /// On its way to the server, until then.
    sent: Option<(u64, Vec<Batch>)>,
    /// On its way back, until then.
    answered: Option<(u64, Vec<(Batch, State)>)>,
    /// Its client keeps to what it was told.
    waits_until: u64,
}

struct World {
    claim: Claim,
    rate: Rate,
    server: State,
    nodes: Vec<Node>,
    granted: u64,
}

impl World {
    fn new(rate: Rate, nodes: u64) -> Self {
        let node = |number| Node {
            ledger: Ledger::new(),
            flushes_at: number * FLUSH_MS / nodes,
            sent: None,
            answered: None,
            waits_until: 0,
        };
        let nodes = (0..nodes).map(node).collect();
        // No view looks at the time of the request itself.
        let claim = Forge::new(1, rate).claim(WallMs(START_MS), None);
        Self { claim, rate, server: State::default(), nodes, granted: 0 }
    }

    /// As `charge.lua` does it.
    fn charge(server: &mut State, batch: &Batch, now: u64, rate: Rate) {
        for due in &batch.dues {
            server.merge(State { arrival_ns: 0, ..due.view });
            server.advance(now, rate, due.granted);
        }
    }

    fn deliver(&mut self, now: u64) {
        let mono = MonoMs(now);
        for node in &mut self.nodes {
            if let Some((_, batches)) = node.sent.take_if(|(at, _)| *at <= now) {
                let charged = batches.into_iter().map(|batch| {
                    Self::charge(&mut self.server, &batch, START_MS + now, self.rate);
                    (batch, self.server)
                });
                node.answered = Some((now + ONE_WAY_MS, charged.collect()));
            }
            if let Some((_, charged)) = node.answered.take_if(|(at, _)| *at <= now) {
                for (batch, state) in charged {
                    batch.confirmed(&[state], START_MS + now, mono);
                }
            }
            if now >= node.flushes_at && node.sent.is_none() && node.answered.is_none() {
                node.flushes_at = now + FLUSH_MS;
                node.sent = Some((now + ONE_WAY_MS, node.ledger.due()));
            }
        }
    }

    /// Requests until one is refused.
    fn request(&mut self, place: usize, now: u64) {
        let (server_ms, mono) = (START_MS + now, MonoMs(now));
        let node = &mut self.nodes[place];
        while node.waits_until <= now {
            let wait = match node.ledger.decide(&self.claim, server_ms, mono) {
                Local::Granted => None,
                Local::Limited { retry_after_ms, .. } => Some(retry_after_ms),
                Local::Ask => {
                    let batch = node.ledger.batch_of(&self.claim);
                    Self::charge(&mut self.server, &batch, server_ms, self.rate);
                    let wait = self.server.decide(server_ms, self.rate);
                    batch.confirmed(&[self.server], server_ms, mono);
                    wait
                }
            };
            match wait {
                None => self.granted += 1,
                Some(wait) => node.waits_until = now + wait,
            }
        }
    }

    /// How much was granted, and by how much that was too much at the worst moment.
    fn run(&mut self, patient: bool) -> (u64, u64) {
        let mut excess = 0;
        for now in 0..RUN_MS {
            self.deliver(now);
            for place in 0..self.nodes.len() {
                if !patient {
                    self.nodes[place].waits_until = 0;
                }
                self.request(place, now);
            }
            excess = excess.max(self.granted.saturating_sub(allowed(self.rate, now)));
        }
        (self.granted, excess)
    }
}

fn allowed(rate: Rate, after_ms: u64) -> u64 {
    u64::from(rate.burst) + u64::from(rate.per_sec) * after_ms / 1_000
}

const RATES: [(u32, u32); 8] =
    [(1, 1), (1, 20), (5, 40), (10, 20), (10, 80), (100, 10), (100, 100), (1_000, 500)];

#[test]
fn three_nodes_grant_at_most_a_twentieth_of_ten_seconds_too_much() {
    for (per_sec, burst) in RATES {
        let rate = Rate { per_sec, burst };
        for patient in [true, false] {
            let (granted, excess) = World::new(rate, 3).run(patient);
            let most = allowed(rate, RUN_MS);
            assert!(excess * 20 <= most, "{rate:?}: {excess} too much of {most}");
            assert!(granted >= u64::from(burst) * 9 / 10, "{rate:?}: {granted} of {most}");
        }
    }
}

#[test]
fn one_node_with_a_patient_client_grants_what_the_rate_has() {
    for (per_sec, burst) in RATES {
        let rate = Rate { per_sec, burst };
        let (granted, excess) = World::new(rate, 1).run(true);
        let most = allowed(rate, RUN_MS);
        assert!(granted * 10 >= most * 9, "{rate:?}: {granted} of {most}");
        assert!(excess <= 1, "{rate:?}: {excess} too much");
    }
}

//! What sources have coming to them: back-off of those that fail to prove who they are.
//!
//! Three tables, each bounded: by network (IPv4 address, IPv6 /64 and /48), by network and named
//! agent, and of pairs that succeeded lately. A table that is full forgets its least used rows; that
//! costs a flood of sources nothing that they did not have, since none of this lets anybody in.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use edgeward_core::flow::Budget;
use edgeward_core::limit::backoff::{Rules, State};
use edgeward_core::time::MonoMs;
use edgeward_wire::AgentId;
use quick_cache::sync::Cache;

/// Rows of each table.
const ROWS: usize = 65_536;
/// For so long a success exempts its pair from the budget of the whole network, in milliseconds.
const TRUSTED_MS: u64 = 3_600_000;

/// The networks that an address counts for, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Networks([Option<IpAddr>; 2]);

impl Networks {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self([Some(address.into()), None]),
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                let cut =
                    |len: u32| IpAddr::from(Ipv6Addr::from(bits & (u128::MAX << (128 - len))));
                Self([Some(cut(64)), Some(cut(48))])
            }
        }
    }

    fn narrowest(self) -> IpAddr {
        self.0[0].unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}

/// The budgets of all sources.
pub(crate) struct Budgets {
    rules: Rules,
    networks: Cache<IpAddr, State>,
    pairs: Cache<(IpAddr, AgentId), State>,
    trusted: Cache<(IpAddr, AgentId), MonoMs>,
    /// Whether anybody has ever failed: until then there is nothing to look up.
    quiet: AtomicBool,
}

impl Budgets {
    /// Under these rules.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            networks: Cache::new(ROWS),
            pairs: Cache::new(ROWS),
            trusted: Cache::new(ROWS),
            quiet: AtomicBool::new(true),
        }
    }

    /// What a request from `client` that names `agent` has coming to it.
    pub(crate) fn look(&self, client: IpAddr, agent: Option<AgentId>, now: MonoMs) -> Budget {
        if self.quiet.load(Ordering::Relaxed) {
            return Budget { wait_ms: None };
        }
        let networks = Networks::of(client);
        let pair = agent.map(|agent| (networks.narrowest(), agent));
        let own =
            pair.and_then(|pair| self.pairs.get(&pair)).and_then(|state| state.wait_ms(now.0));
        if own.is_some() || pair.is_some_and(|pair| self.is_trusted(pair, now)) {
            return Budget { wait_ms: own };
        }
        let wait_ms = networks
            .0
            .iter()
            .flatten()
            .filter_map(|network| self.networks.get(network)?.wait_ms(now.0))
            .max();
        Budget { wait_ms }
    }

    fn is_trusted(&self, pair: (IpAddr, AgentId), now: MonoMs) -> bool {
        self.trusted.get(&pair).is_some_and(|at| now.since(at) < TRUSTED_MS)
    }

    /// Counts a failure. `random` gives the jitter.
    ///
    /// A pair that is trusted counts for itself alone, so that one broken agent behind a NAT does not
    /// silence its neighbours.
    pub(crate) fn failed(&self, client: IpAddr, agent: Option<AgentId>, now: MonoMs, random: u64) {
        self.quiet.store(false, Ordering::Relaxed);
        let networks = Networks::of(client);
        let pair = agent.map(|agent| (networks.narrowest(), agent));
        if let Some(pair) = pair {
            let state = self.pairs.get(&pair).unwrap_or_default();
            self.pairs.insert(pair, state.failed(now.0, self.rules, random));
            if self.is_trusted(pair, now) {
                return;
            }
        }
        for (network, free) in networks.0.iter().flatten().zip([1, 16]) {
            let state = self.networks.get(network).unwrap_or_default();
            // Many agents share a /48 or a NAT: the wider the network, the more is free.
            let rules = Rules { free: self.rules.free.saturating_mul(free), ..self.rules };
            self.networks.insert(*network, state.failed(now.0, rules, random.rotate_left(32)));
        }
    }

    /// Notes a success.
    pub(crate) fn succeeded(&self, client: IpAddr, agent: AgentId, now: MonoMs) {
        let pair = (Networks::of(client).narrowest(), agent);
        // Once a minute is enough, and keeps the table out of the way of every request.
        if self.trusted.get(&pair).is_none_or(|at| now.since(at) > 60_000) {
            self.trusted.insert(pair, now);
        }
        if !self.quiet.load(Ordering::Relaxed) && self.pairs.get(&pair).is_some() {
            self.pairs.remove(&pair);
        }
    }
}

impl std::fmt::Debug for Budgets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Budgets({} networks)", self.networks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { free: 2, base_ms: 1_000, max_ms: 60_000 };
    const NOW: MonoMs = MonoMs(5_000);

    fn agent(n: u8) -> AgentId {
        AgentId::from_bytes([n; 16])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(budgets: &Budgets, client: &str, named: Option<AgentId>, times: u32) {
        for _ in 0..times {
            budgets.failed(ip(client), named, NOW, u64::MAX);
        }
    }

    #[test]
    fn a_source_waits_after_its_free_failures_whatever_it_names() {
        let budgets = Budgets::new(RULES);
        fail(&budgets, "192.0.2.1", Some(agent(1)), 2);
        assert_eq!(budgets.look(ip("192.0.2.1"), Some(agent(1)), NOW).wait_ms, None);
        fail(&budgets, "192.0.2.1", Some(agent(1)), 1);
        assert!(budgets.look(ip("192.0.2.1"), Some(agent(1)), NOW).wait_ms.is_some());
        assert!(budgets.look(ip("192.0.2.1"), Some(agent(2)), NOW).wait_ms.is_some());
        assert_eq!(budgets.look(ip("192.0.2.2"), Some(agent(1)), NOW).wait_ms, None);
    }

    #[test]
    fn a_pair_that_succeeded_is_exempt_from_its_networks_wait_but_not_from_its_own() {
        let budgets = Budgets::new(RULES);
        budgets.succeeded(ip("192.0.2.1"), agent(1), NOW);
        fail(&budgets, "192.0.2.1", Some(agent(2)), 9);
        assert_eq!(budgets.look(ip("192.0.2.1"), Some(agent(1)), NOW).wait_ms, None);
        assert!(budgets.look(ip("192.0.2.1"), Some(agent(3)), NOW).wait_ms.is_some());
        fail(&budgets, "192.0.2.1", Some(agent(1)), 9);
        assert!(budgets.look(ip("192.0.2.1"), Some(agent(1)), NOW).wait_ms.is_some());
    }

    #[test]
    fn trust_ends_after_an_hour() {
        let budgets = Budgets::new(RULES);
        budgets.succeeded(ip("192.0.2.1"), agent(1), MonoMs(0));
        let later = MonoMs(TRUSTED_MS + 1);
        for _ in 0..9 {
            budgets.failed(ip("192.0.2.1"), None, later, u64::MAX);
        }
        assert!(budgets.look(ip("192.0.2.1"), Some(agent(1)), later).wait_ms.is_some());
    }

    #[test]
    fn an_ipv6_source_is_its_64_and_in_the_long_run_its_48() {
        let budgets = Budgets::new(RULES);
        fail(&budgets, "2001:db8:0:1::1", None, 3);
        assert!(budgets.look(ip("2001:db8:0:1::ffff"), None, NOW).wait_ms.is_some());
        assert_eq!(budgets.look(ip("2001:db8:0:2::1"), None, NOW).wait_ms, None);
        for net in 0..40 {
            fail(&budgets, &format!("2001:db8:0:{net:x}::1"), None, 1);
        }
        assert!(budgets.look(ip("2001:db8:0:ffff::1"), None, NOW).wait_ms.is_some());
        assert_eq!(budgets.look(ip("2001:db9::1"), None, NOW).wait_ms, None);
    }
}

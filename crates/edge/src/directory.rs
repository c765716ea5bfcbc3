//! Agents with their secrets unsealed, kept in memory for a while: inputs of decisions, never
//! decisions. Whoever changes an agent says so to [`Directory::forget`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edgeward_core::address::AddressList;
use edgeward_core::record::{Agent, Fact, Secret};
use edgeward_core::time::{MonoMs, Now};
use edgeward_keys::{Purpose, Sealer};
use edgeward_store::durable::{AgentRow, Durable, SecretRow, SecretStatus};
use edgeward_wire::{AgentId, AgentSecret, MacKey};
use quick_cache::sync::Cache;

/// Agents held at most.
const AGENTS: usize = 100_000;
/// How long "there is no such agent" is remembered, in milliseconds: a flood of invented ids asks
/// the database once for each.
const ABSENT_MS: u64 = 2_000;

/// Counters of changes. Agents share them: a change of one has one in so many of the others read anew.
const CHANGES: usize = 256;

#[derive(Clone)]
struct Entry {
    agent: Option<Arc<Agent>>,
    read_at: MonoMs,
    /// How many changes there had been when the reading began.
    changes: u64,
}

/// The agents of a deployment, by id.
pub(crate) struct Directory {
    durable: Arc<dyn Durable>,
    sealer: Arc<Sealer>,
    kept_ms: u64,
    entries: Cache<AgentId, Entry>,
    /// Raised by every [`Directory::forget`]: what was read before it is not answered after it.
    changes: [AtomicU64; CHANGES],
}

impl Directory {
    /// Keeps secrets unsealed for `kept_ms` milliseconds after they were read.
    pub(crate) fn new(durable: Arc<dyn Durable>, sealer: Arc<Sealer>, kept_ms: u64) -> Self {
        let changes = [const { AtomicU64::new(0) }; CHANGES];
        Self { durable, sealer, kept_ms, entries: Cache::new(AGENTS), changes }
    }

    /// The agent, from memory if it was read lately.
    pub(crate) async fn look(&self, id: AgentId, now: Now) -> Fact<Arc<Agent>> {
        let changes = self.changes_of(id).load(Ordering::Acquire);
        if let Some(entry) = self.entries.get(&id) {
            let kept_ms = if entry.agent.is_some() { self.kept_ms } else { ABSENT_MS };
            if entry.changes == changes && now.mono.since(entry.read_at) < kept_ms {
                return Fact::Answered(entry.agent);
            }
        }
        match self.read(id).await {
            Ok(agent) => {
                // If somebody changes it meanwhile the entry is out of date, and says so itself.
                self.entries.insert(id, Entry { agent: agent.clone(), read_at: now.mono, changes });
                Fact::Answered(agent)
            }
            Err(error) => {
                tracing::error!(agent = %id, %error, "an agent could not be read");
                Fact::Unavailable
            }
        }
    }

    /// Forgets what was read of an agent: call it after every change of its rows.
    pub(crate) fn forget(&self, id: AgentId) {
        self.changes_of(id).fetch_add(1, Ordering::AcqRel);
        self.entries.remove(&id);
    }

    #[expect(clippy::indexing_slicing, reason = "a byte is less than 256")]
    fn changes_of(&self, id: AgentId) -> &AtomicU64 {
        // The last byte is random in every id that the edge makes.
        let [.., last] = *id.as_bytes();
        // INVARIANT: `CHANGES` is 256.
        &self.changes[usize::from(last)]
    }

    async fn read(
        &self,
        id: AgentId,
    ) -> Result<Option<Arc<Agent>>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(row) = self.durable.agent(id).await? else {
            // As much work as for an agent that there is.
            self.sealer.dummy_open();
            return Ok(None);
        };
        Ok(Some(Arc::new(self.agent(row)?)))
    }

    fn agent(&self, row: AgentRow) -> Result<Agent, Box<dyn std::error::Error + Send + Sync>> {
        let secrets = row
            .secrets
            .iter()
            .filter_map(|secret| live_until(secret).map(|until| (secret, until)))
            .map(|(secret, valid_until)| {
                let text = self.sealer.open(
                    Purpose::AgentSecret,
                    row.id.as_bytes(),
                    secret.version,
                    &secret.sealed,
                )?;
                let text = AgentSecret::parse(std::str::from_utf8(&text)?)?;
                Ok(Secret { version: secret.version, key: MacKey::of_secret(&text), valid_until })
            })
            .collect::<Result<Vec<_>, Box<dyn std::error::Error + Send + Sync>>>()?;
        Ok(Agent {
            id: row.id,
            owner: row.owner,
            standing: row.standing,
            epoch: row.epoch,
            allowed: AddressList::new(&row.allowed_cidrs),
            scopes: row.scopes.into(),
            rate: row.rate,
            legacy: row.legacy,
            device_key: row.device_key,
            secrets: secrets.into(),
        })
    }
}

/// Until when a version is taken; `None` for one that is not taken at all.
fn live_until(secret: &SecretRow) -> Option<edgeward_core::time::WallMs> {
    match secret.status {
        SecretStatus::Prepared | SecretStatus::Active => Some(secret.expires_at),
        SecretStatus::Grace => Some(secret.grace_until?.min(secret.expires_at)),
        SecretStatus::Retired | SecretStatus::Compromised => None,
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Directory({} agents)", self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use edgeward_core::record::Standing;
    use edgeward_core::time::WallMs;
    use edgeward_keys::{Entropy, Kek, SystemEntropy};
    use edgeward_store::Clock as _;
    use edgeward_store::clock::ManualClock;
    use edgeward_wire::OwnerId;

    use super::*;
    use crate::fake::FakeDurable;

    fn id() -> AgentId {
        AgentId::from_bytes([9; 16])
    }

    fn row(epoch: u64) -> AgentRow {
        AgentRow {
            id: id(),
            owner: OwnerId::parse("owner").unwrap(),
            alias: None,
            platform: None,
            device_key: None,
            standing: Standing::Active,
            epoch,
            allowed_cidrs: Vec::new(),
            scopes: Vec::new(),
            rate: None,
            legacy: false,
            metadata: serde_json::Map::new(),
            created_at: WallMs(0),
            secrets: Vec::new(),
        }
    }

    async fn scene() -> (Arc<FakeDurable>, Arc<Directory>, ManualClock) {
        let durable = Arc::new(FakeDurable::new());
        *durable.agent.lock().unwrap() = Some(row(1));
        let clock = ManualClock::at(WallMs(1_764_000_000_000));
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let folder = tempfile::tempdir().unwrap();
        let kek = Kek::generate_file(&folder.path().join("kek"), &*entropy).unwrap();
        let sealer = Sealer::load(&*durable, &kek, &clock, entropy).await.unwrap();
        let directory = Directory::new(durable.clone(), Arc::new(sealer), 60_000);
        (durable, Arc::new(directory), clock)
    }

    fn epoch(fact: Fact<Arc<Agent>>) -> Option<u64> {
        match fact {
            Fact::Answered(agent) => agent.map(|agent| agent.epoch),
            Fact::Unavailable => panic!("the fake answers"),
        }
    }

    #[tokio::test]
    async fn what_was_read_lately_is_not_read_again_and_what_changed_is() {
        let (durable, directory, clock) = scene().await;
        durable.let_read.add_permits(2);
        for _ in 0..3 {
            assert_eq!(epoch(directory.look(id(), clock.now()).await), Some(1));
        }
        assert_eq!(durable.reads.load(Ordering::SeqCst), 1);
        *durable.agent.lock().unwrap() = Some(row(2));
        directory.forget(id());
        assert_eq!(epoch(directory.look(id(), clock.now()).await), Some(2));
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_answered_after_it() {
        let (durable, directory, clock) = scene().await;
        let late = tokio::spawn({
            let (directory, now) = (Arc::clone(&directory), clock.now());
            async move { directory.look(id(), now).await }
        });
        while durable.reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // It has looked at the row, and comes to keep it after the change.
        *durable.agent.lock().unwrap() = Some(row(2));
        directory.forget(id());
        durable.let_read.add_permits(2);
        late.await.unwrap();
        assert_eq!(epoch(directory.look(id(), clock.now()).await), Some(2));
    }

    /// The entry that a late reader puts in place is there for a moment at least.
    #[tokio::test]
    async fn an_entry_from_before_a_change_is_not_answered_while_it_is_there() {
        let (durable, directory, clock) = scene().await;
        durable.let_read.add_permits(2);
        directory.look(id(), clock.now()).await;
        let old = directory.entries.get(&id()).unwrap();
        *durable.agent.lock().unwrap() = Some(row(2));
        directory.forget(id());
        directory.entries.insert(id(), old);
        assert_eq!(epoch(directory.look(id(), clock.now()).await), Some(2));
    }
}

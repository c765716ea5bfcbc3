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

#[derive(Clone)]
struct Entry {
    agent: Option<Arc<Agent>>,
    read_at: MonoMs,
}

/// The agents of a deployment, by id.
pub(crate) struct Directory {
    durable: Arc<dyn Durable>,
    sealer: Arc<Sealer>,
    kept_ms: u64,
    entries: Cache<AgentId, Entry>,
    /// Raised by every [`Directory::forget`]: what was read before it is not kept after it.
    changes: AtomicU64,
}

impl Directory {
    /// Keeps secrets unsealed for `kept_ms` milliseconds after they were read.
    pub(crate) fn new(durable: Arc<dyn Durable>, sealer: Arc<Sealer>, kept_ms: u64) -> Self {
        Self { durable, sealer, kept_ms, entries: Cache::new(AGENTS), changes: AtomicU64::new(0) }
    }

    /// The agent, from memory if it was read lately.
    pub(crate) async fn look(&self, id: AgentId, now: Now) -> Fact<Arc<Agent>> {
        if let Some(entry) = self.entries.get(&id) {
            let kept_ms = if entry.agent.is_some() { self.kept_ms } else { ABSENT_MS };
            if now.mono.since(entry.read_at) < kept_ms {
                return Fact::Answered(entry.agent);
            }
        }
        let before = self.changes.load(Ordering::Acquire);
        let read = self.read(id).await;
        match read {
            Ok(agent) => {
                self.entries.insert(id, Entry { agent: agent.clone(), read_at: now.mono });
                if self.changes.load(Ordering::Acquire) != before {
                    // Somebody changed an agent while this one was read; it may have been this one.
                    self.entries.remove(&id);
                }
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
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.entries.remove(&id);
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

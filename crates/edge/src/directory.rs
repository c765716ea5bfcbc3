//! Agents in memory: inputs of decisions, never decisions. Whoever changes an agent says so to
//! [`Directory::forget`], and so does whoever learns that another node has.
//!
//! An agent's record is kept with its secrets as they lie in the database, sealed. They are opened
//! where one has to be checked against, and kept open for as long as the deployment allows.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use edgeward_core::address::AddressList;
use edgeward_core::record::{Agent, Fact, Secret};
use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_keys::{Purpose, Sealer};
use edgeward_store::durable::{AgentRow, Durable, SecretRow, SecretStatus};
use edgeward_wire::{AgentId, AgentSecret, MacKey};
use quick_cache::sync::Cache;

/// Agents held at most.
const AGENTS: usize = 100_000;
/// How long "there is no such agent" is remembered, in milliseconds: a flood of invented ids asks
/// the database once for each.
const ABSENT_MS: u64 = 2_000;
/// How long a record is kept where changes by other nodes are told of, in milliseconds.
const TOLD_MS: u64 = 300_000;

/// How long it is before a database that was down is asked again for an agent, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// Counters of changes. Agents share them: a change of one has one in so many of the others read anew.
const CHANGES: usize = 256;

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Entry {
    known: Option<Arc<Known>>,
    read_at: MonoMs,
    /// How many changes there had been when the reading began.
    changes: u64,
}

/// An agent's record.
struct Known {
    row: AgentRow,
    /// Without its secrets: all that a session's request needs.
    bare: Arc<Agent>,
    /// With them, and since when they are open.
    open: Mutex<Option<(Arc<Agent>, MonoMs)>>,
}

/// Whether a decision will check a signature against the agent's own secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// It will.
    Needed,
    /// A session's key is what checks.
    Left,
}

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Secrets in the clear, in milliseconds: `AGENT_SECRET_CACHE_MS`.
    pub(crate) secrets_ms: u64,
    /// Whether this node is told of what others change. Otherwise a record is kept no longer than its
    /// secrets, and none is answered that the database does not confirm when it is asked.
    pub(crate) is_told: bool,
}

/// The agents of a deployment, by id.
pub(crate) struct Directory {
    durable: Arc<dyn Durable>,
    sealer: Arc<Sealer>,
    keep: Keep,
    entries: Cache<AgentId, Entry>,
    /// Records whose secrets are in the clear, by when they were opened.
    open: Mutex<VecDeque<(MonoMs, Weak<Known>)>>,
    /// Raised by every [`Directory::forget`]: what was read before it is not answered after it.
    changes: [AtomicU64; CHANGES],
}

impl Directory {
    pub(crate) fn new(durable: Arc<dyn Durable>, sealer: Arc<Sealer>, keep: Keep) -> Self {
        let changes = [const { AtomicU64::new(0) }; CHANGES];
        let (entries, open) = (Cache::new(AGENTS), Mutex::default());
        Self { durable, sealer, keep, entries, open, changes }
    }

    /// The agent, from memory if it was read lately.
    pub(crate) async fn look(&self, id: AgentId, secrets: Secrets, now: Now) -> Fact<Arc<Agent>> {
        let answer = match self.known(id, now.mono).await {
            Ok(Some(known)) if secrets == Secrets::Left => Ok(Some(Arc::clone(&known.bare))),
            Ok(Some(known)) => self.opened(&known, now.mono).map(Some),
            Ok(None) => {
                // As much work as for an agent that there is.
                self.sealer.dummy_open();
                Ok(None)
            }
            Err(error) => Err(error),
        };
        answer.map_or_else(
            |error| {
                tracing::error!(agent = %id, %error, "an agent could not be read");
                Fact::Unavailable
            },
            Fact::Answered,
        )
    }

    /// Forgets what was read of an agent: call it after every change of its rows.
    pub(crate) fn forget(&self, id: AgentId) {
        self.changes_of(id).fetch_add(1, Ordering::AcqRel);
        self.entries.remove(&id);
    }

    /// Drops secrets that were in the clear for as long as they may be. To be called every second.
    pub(crate) fn sweep(&self, now: MonoMs) {
        loop {
            let mut open = lock(&self.open);
            match open.front() {
                Some((since, _)) if now.since(*since) >= self.keep.secrets_ms => {}
                Some(_) | None => return,
            }
            let known = open.pop_front().and_then(|(_, known)| known.upgrade());
            drop(open);
            if let Some(known) = known {
                let mut kept = lock(&known.open);
                if kept.as_ref().is_some_and(|(_, since)| now.since(*since) >= self.keep.secrets_ms)
                {
                    *kept = None;
                }
            }
        }
    }

    /// Forgets everything: changes may have been missed.
    pub(crate) fn forget_all(&self) {
        for changes in &self.changes {
            changes.fetch_add(1, Ordering::AcqRel);
        }
        self.entries.clear();
    }

    async fn known(&self, id: AgentId, now: MonoMs) -> Result<Option<Arc<Known>>, Failed> {
        let changes = self.changes_of(id).load(Ordering::Acquire);
        let entry = self.entries.get(&id).filter(|entry| entry.changes == changes);
        if let Some(entry) = &entry {
            let kept_ms = if entry.known.is_none() {
                ABSENT_MS
            } else if self.keep.is_told {
                TOLD_MS
            } else {
                self.keep.secrets_ms
            };
            if now.since(entry.read_at) < kept_ms {
                return Ok(entry.known.clone());
            }
        }
        let row = match (self.durable.agent(id).await, entry) {
            (Ok(row), _) => row,
            // Nobody has changed it: whoever did would have been told of, or nothing in memory holds.
            (Err(error), Some(Entry { known: Some(known), .. }))
                if self.keep.is_told && self.changes_of(id).load(Ordering::Acquire) == changes =>
            {
                tracing::warn!(agent = %id, %error, "an agent is answered as it was last read");
                // Not every request of it asks a database that is down.
                let read_at = MonoMs(now.0.saturating_sub(TOLD_MS.saturating_sub(AGAIN_MS)));
                self.entries
                    .insert(id, Entry { known: Some(Arc::clone(&known)), read_at, changes });
                return Ok(Some(known));
            }
            (Err(error), _) => return Err(error.into()),
        };
        let known = row.map(|row| Arc::new(Known::new(row)));
        // If somebody changes it meanwhile the entry is out of date, and says so itself.
        self.entries.insert(id, Entry { known: known.clone(), read_at: now, changes });
        Ok(known)
    }

    #[expect(clippy::indexing_slicing, reason = "a byte is less than 256")]
    fn changes_of(&self, id: AgentId) -> &AtomicU64 {
        // The last byte is random in every id that the edge makes.
        let [.., last] = *id.as_bytes();
        // INVARIANT: `CHANGES` is 256.
        &self.changes[usize::from(last)]
    }

    /// The agent with its secrets in the clear.
    fn opened(&self, known: &Arc<Known>, now: MonoMs) -> Result<Arc<Agent>, Failed> {
        if let Some((agent, since)) = &*lock(&known.open)
            && now.since(*since) < self.keep.secrets_ms
        {
            return Ok(Arc::clone(agent));
        }
        let row = &known.row;
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
            .collect::<Result<Vec<_>, Failed>>()?;
        let agent = Arc::new(Agent { secrets: secrets.into(), ..Agent::clone(&known.bare) });
        if self.keep.secrets_ms > 0 {
            *lock(&known.open) = Some((Arc::clone(&agent), now));
            lock(&self.open).push_back((now, Arc::downgrade(known)));
        }
        Ok(agent)
    }
}

impl Known {
    fn new(row: AgentRow) -> Self {
        let live = row.secrets.iter().filter(|secret| live_until(secret).is_some());
        let bare = Agent {
            id: row.id,
            owner: row.owner.clone(),
            standing: row.standing,
            epoch: row.epoch,
            allowed: AddressList::new(&row.allowed_cidrs),
            scopes: row.scopes.clone().into(),
            rate: row.rate,
            legacy: row.legacy,
            device_key: row.device_key,
            newest_version: live.map(|secret| secret.version).max(),
            secrets: Arc::from([]),
        };
        Self { row, bare: Arc::new(bare), open: Mutex::new(None) }
    }
}

/// No panic can happen between the changes that belong together.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until when a version is taken; `None` for one that is not taken at all.
fn live_until(secret: &SecretRow) -> Option<WallMs> {
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

    const ALONE: Keep = Keep { secrets_ms: 60_000, is_told: false };

    async fn scene() -> (Arc<FakeDurable>, Arc<Directory>, ManualClock) {
        scene_of(ALONE).await
    }

    async fn scene_of(keep: Keep) -> (Arc<FakeDurable>, Arc<Directory>, ManualClock) {
        let durable = Arc::new(FakeDurable::new());
        *durable.agent.lock().unwrap() = Some(row(1));
        let clock = ManualClock::at(WallMs(1_764_000_000_000));
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let folder = tempfile::tempdir().unwrap();
        let kek = Kek::generate_file(&folder.path().join("kek"), &*entropy).unwrap();
        let sealer = Sealer::load(&*durable, &kek, &clock, entropy).await.unwrap();
        let directory = Directory::new(durable.clone(), Arc::new(sealer), keep);
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
            assert_eq!(epoch(directory.look(id(), Secrets::Left, clock.now()).await), Some(1));
        }
        assert_eq!(durable.reads.load(Ordering::SeqCst), 1);
        *durable.agent.lock().unwrap() = Some(row(2));
        directory.forget(id());
        assert_eq!(epoch(directory.look(id(), Secrets::Left, clock.now()).await), Some(2));
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_answered_after_it() {
        let (durable, directory, clock) = scene().await;
        let late = tokio::spawn({
            let (directory, now) = (Arc::clone(&directory), clock.now());
            async move { directory.look(id(), Secrets::Left, now).await }
        });
        while durable.reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // It has looked at the row, and comes to keep it after the change.
        *durable.agent.lock().unwrap() = Some(row(2));
        directory.forget(id());
        durable.let_read.add_permits(2);
        late.await.unwrap();
        assert_eq!(epoch(directory.look(id(), Secrets::Left, clock.now()).await), Some(2));
    }

    /// The entry that a late reader puts in place is there for a moment at least.
    #[tokio::test]
    async fn an_entry_from_before_a_change_is_not_answered_while_it_is_there() {
        let (durable, directory, clock) = scene().await;
        durable.let_read.add_permits(2);
        directory.look(id(), Secrets::Left, clock.now()).await;
        let old = directory.entries.get(&id()).unwrap();
        *durable.agent.lock().unwrap() = Some(row(2));
        directory.forget(id());
        directory.entries.insert(id(), old);
        assert_eq!(epoch(directory.look(id(), Secrets::Left, clock.now()).await), Some(2));
    }
    /// A sealed secret that opens, in the row of the agent of these tests.
    fn with_secret(sealer: &Sealer) -> AgentRow {
        let secret = AgentSecret::from_random(&[3; 32]);
        let text = secret.expose().as_bytes();
        let sealed = sealer.seal(Purpose::AgentSecret, id().as_bytes(), 4, text).unwrap();
        let secret = SecretRow {
            version: 4,
            sealed,
            fingerprint: secret.fingerprint(),
            status: SecretStatus::Active,
            activated_at: None,
            grace_until: None,
            expires_at: WallMs(u64::MAX),
        };
        AgentRow { secrets: vec![secret], ..row(1) }
    }

    fn versions(fact: Fact<Arc<Agent>>) -> (Option<u32>, Vec<u32>) {
        let Fact::Answered(Some(agent)) = fact else { panic!("there is one") };
        (agent.newest_version, agent.secrets.iter().map(|secret| secret.version).collect())
    }

    #[tokio::test]
    async fn secrets_are_open_where_they_are_needed_and_not_for_longer_than_they_may_be() {
        let keep = Keep { secrets_ms: 1_000, is_told: true };
        let (durable, directory, clock) = scene_of(keep).await;
        *durable.agent.lock().unwrap() = Some(with_secret(&directory.sealer));
        durable.let_read.add_permits(1);
        let look = |secrets| directory.look(id(), secrets, clock.now());
        assert_eq!(versions(look(Secrets::Left).await), (Some(4), vec![]));
        assert_eq!(versions(look(Secrets::Needed).await), (Some(4), vec![4]));
        let known = directory.entries.get(&id()).unwrap().known.unwrap();
        let is_open = || lock(&known.open).is_some();
        clock.advance(999);
        directory.sweep(clock.now().mono);
        assert!(is_open());
        clock.advance(1);
        directory.sweep(clock.now().mono);
        assert!(!is_open() && lock(&directory.open).is_empty());
        // The record itself stays, and its secrets open anew.
        assert_eq!(versions(look(Secrets::Needed).await), (Some(4), vec![4]));
        assert_eq!(durable.reads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn nothing_is_kept_in_the_clear_where_nothing_may_be() {
        let (durable, directory, clock) = scene_of(Keep { secrets_ms: 0, is_told: true }).await;
        *durable.agent.lock().unwrap() = Some(with_secret(&directory.sealer));
        durable.let_read.add_permits(1);
        let looked = directory.look(id(), Secrets::Needed, clock.now()).await;
        assert_eq!(versions(looked), (Some(4), vec![4]));
        let known = directory.entries.get(&id()).unwrap().known.unwrap();
        assert!(lock(&known.open).is_none());
    }

    /// A node that is told of changes answers by what it read while the database is down; one that is
    /// not, and one that was told of a change, do not.
    #[tokio::test]
    async fn what_was_read_outlives_an_outage_only_where_changes_are_told_of() {
        for (is_told, is_forgotten, answers) in
            [(true, false, true), (true, true, false), (false, false, false)]
        {
            let (durable, directory, clock) = scene_of(Keep { secrets_ms: 60_000, is_told }).await;
            durable.let_read.add_permits(1);
            directory.look(id(), Secrets::Left, clock.now()).await;
            durable.let_read.close();
            durable.is_down.store(true, Ordering::SeqCst);
            clock.advance(TOLD_MS);
            if is_forgotten {
                directory.forget(id());
            }
            let fact = directory.look(id(), Secrets::Left, clock.now()).await;
            assert_eq!(
                matches!(fact, Fact::Answered(Some(_))),
                answers,
                "{is_told} {is_forgotten}"
            );
            assert_eq!(matches!(fact, Fact::Unavailable), !answers, "never as if there were none");
        }
    }

    #[tokio::test]
    async fn once_everything_is_forgotten_everything_is_read_anew() {
        let (durable, directory, clock) = scene().await;
        durable.let_read.add_permits(2);
        directory.look(id(), Secrets::Left, clock.now()).await;
        *durable.agent.lock().unwrap() = Some(row(2));
        directory.forget_all();
        assert_eq!(epoch(directory.look(id(), Secrets::Left, clock.now()).await), Some(2));
    }
}

//! What the process holds in memory, across a stop or a crash.
//!
//! While requests are admitted, a mark is on disk: the wall clock, never older than a second, and how
//! far stamps may be ahead of it; the memory of nonces grants nothing beyond. So after a crash the mark
//! tells up to which stamp requests may have been admitted whose nonces are lost, and the replay floor
//! is drawn there.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use edgeward_core::time::{Now, WallMs};
use edgeward_keys::{Purpose, Sealer};
use edgeward_store::durable::{Durable, LastRun, Sealed};
use edgeward_store::memory::MemoryStore;
use edgeward_store::{Clock, StoreError};
use tokio::sync::{Mutex, Notify};
use zeroize::Zeroizing;

/// A mark permits claims for so long after the moment that it names, in milliseconds.
const LEASE_MS: u64 = 1_000;
/// A floor lies this much beyond the last possible stamp, in milliseconds: clocks of nodes differ.
const SKEW_MS: u64 = 500;
/// While there are claims the mark is renewed this often.
const RENEWAL: Duration = Duration::from_millis(250);

/// Keeps the mark of one process fresh.
pub struct Continuity {
    durable: Arc<dyn Durable>,
    memory: Arc<MemoryStore>,
    clock: Arc<dyn Clock>,
    /// When the last mark was written; none once the run has ended, after which none may follow:
    /// a mark says that the run goes on, and would void what it left.
    renewing: Mutex<Option<WallMs>>,
    wanted: Notify,
    /// The wall clock less the monotonic one, in milliseconds, at its highest under a claim.
    highest: AtomicI64,
    /// The wall clock at its latest under a claim.
    latest: AtomicU64,
    plan: MemoryPlan,
}

/// Why a run could not begin or end in order.
#[derive(Debug, thiserror::Error)]
pub enum ContinuityError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot could not be sealed.
    #[error("the memory of this run could not be sealed: {0}")]
    Sealing(String),
}

/// How the memory of a run is made.
#[derive(Debug, Clone, Copy)]
pub struct MemoryPlan {
    /// Places for nonces.
    pub nonce_capacity: usize,
    /// Random and secret; an attacker who cannot guess it cannot make nonces collide.
    pub nonce_key: [u8; 16],
    /// `AGENT_HMAC_WINDOW_MS`.
    pub window_ms: u64,
    /// `AGENT_HMAC_AHEAD_MS`.
    pub ahead_ms: u64,
    /// `AGENT_NONCE_TTL_MS`.
    pub nonce_ttl_ms: u64,
}

impl MemoryPlan {
    /// What nonces that live for `ttl_ms` live longer than their timestamps can be accepted, less a
    /// second: by so much the wall clock may be set back without one being forgotten too early.
    /// `None` when they do not live long enough.
    fn spare_ms(&self, ttl_ms: u64) -> Option<u64> {
        ttl_ms.checked_sub(self.window_ms)?.checked_sub(self.ahead_ms)?.checked_sub(1_000)
    }
}

impl Continuity {
    /// Begins a run: takes over what the last one left in order, or draws the replay floor after one
    /// that did not end in order.
    ///
    /// # Errors
    /// When the last run's end could not be read or consumed; then nothing may be served.
    pub async fn begin(
        durable: Arc<dyn Durable>,
        sealer: &Sealer,
        clock: Arc<dyn Clock>,
        plan: MemoryPlan,
    ) -> Result<Arc<Self>, ContinuityError> {
        let fresh = || MemoryStore::new(Arc::clone(&clock), plan.nonce_key, plan.nonce_capacity);
        let memory = match durable.begin_run().await? {
            LastRun::None => fresh(),
            LastRun::Unclean { mark } => {
                let floor = mark.plus(LEASE_MS).plus(SKEW_MS);
                tracing::warn!(
                    floor_ms = floor.0,
                    wait_ms = floor.since(clock.now().wall),
                    "the last run did not stop in order: no request stamped up to the floor is accepted"
                );
                behind(fresh(), floor)
            }
            LastRun::Clean { snapshot } => {
                Self::resume(&snapshot, sealer, &clock, plan).unwrap_or_else(|error| {
                    // It is lost, so that this start is like one after a crash right now.
                    let floor = floor_at(clock.now().wall.plus(LEASE_MS), plan.ahead_ms);
                    tracing::error!(%error, floor_ms = floor.0, "the last run's memory could not be read");
                    behind(fresh(), floor)
                })
            }
        };
        memory.require_mark();
        Ok(Arc::new(Self {
            durable,
            memory: Arc::new(memory),
            clock,
            renewing: Mutex::new(Some(WallMs(0))),
            wanted: Notify::new(),
            highest: AtomicI64::new(i64::MIN),
            latest: AtomicU64::new(0),
            plan,
        }))
    }

    fn resume(
        snapshot: &Sealed,
        sealer: &Sealer,
        clock: &Arc<dyn Clock>,
        plan: MemoryPlan,
    ) -> Result<MemoryStore, String> {
        let bytes = sealer
            .open(Purpose::Snapshot, b"run", 1, snapshot)
            .map_err(|error| error.to_string())?;
        let (kept, bytes) = Kept::read(&bytes).ok_or("it is cut short")?;
        let ahead_ms = plan.ahead_ms.max(kept.ahead_ms);
        let memory = MemoryStore::restore(bytes, Arc::clone(clock), plan.nonce_capacity, ahead_ms)
            .map_err(|error| error.to_string())?;
        if plan.spare_ms(kept.nonce_ttl_ms).is_some() {
            return Ok(memory);
        }
        // A wider window would take what was forgotten already, rightly by the window before.
        let floor = floor_at(clock.now().wall, ahead_ms);
        tracing::warn!(
            floor_ms = floor.0,
            "the window is wider than the last run remembered nonces for: no request stamped up to \
             the floor is accepted"
        );
        Ok(behind(memory, floor))
    }

    /// The memory of this run.
    pub fn memory(&self) -> &Arc<MemoryStore> {
        &self.memory
    }

    /// Looks, before a claim, whether the wall clock was set back further than the memory of nonces
    /// reaches. Nonces are remembered by time that passes; after such a step they would be forgotten
    /// before the wall clock shows their timestamps once more, so the floor goes over all that can
    /// have been granted.
    pub fn watch_clock(&self, now: Now) {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let offset = signed(now.wall.0).saturating_sub(signed(now.mono.0));
        let highest = self.highest.fetch_max(offset, Ordering::SeqCst).max(offset);
        let latest = WallMs(self.latest.fetch_max(now.wall.0, Ordering::SeqCst));
        let back_ms = u64::try_from(highest.saturating_sub(offset)).unwrap_or(0);
        if back_ms <= self.plan.spare_ms(self.plan.nonce_ttl_ms).unwrap_or(0) {
            return;
        }
        let floor = floor_at(latest, self.plan.ahead_ms);
        self.memory.set_replay_floor(floor);
        self.highest.store(offset, Ordering::SeqCst);
        tracing::error!(
            back_ms,
            floor_ms = floor.0,
            "the wall clock was set back: no request stamped up to the floor is accepted"
        );
    }

    /// Renews the mark while there are claims; runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.wanted.notified().await;
            loop {
                if let Err(error) = self.renew().await {
                    tracing::error!(%error, "the mark of the clock could not be written: claims are refused");
                }
                tokio::time::sleep(RENEWAL).await;
                // A quiet process writes nothing.
                if !self.memory.claims_since_mark() {
                    break;
                }
            }
        }
    }

    /// Writes a fresh mark now, once for everybody who waits, and lets claims go on.
    ///
    /// # Errors
    /// When it could not be written; claims stay refused.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let mut written = self.renewing.lock().await;
        let Some(last) = *written else {
            return Err(StoreError::Unavailable("the run has ended".to_owned()));
        };
        let now = self.clock.now().wall;
        if now >= last && now.since(last) < LEASE_MS / 2 {
            return Ok(());
        }
        // With what it lets stamps be ahead: the next run may have another allowance.
        self.durable.write_mark(now.plus(self.plan.ahead_ms)).await?;
        *written = Some(now);
        self.memory.allow_claims_until(now.plus(LEASE_MS));
        self.wanted.notify_one();
        Ok(())
    }

    /// Ends the run in order: nothing is claimed any more, and what is held goes to disk, sealed.
    ///
    /// # Errors
    /// When it could not be kept; the next start then takes this for a crash, which is safe.
    pub async fn end(&self, sealer: &Sealer) -> Result<(), ContinuityError> {
        let mut written = self.renewing.lock().await;
        *written = None;
        self.memory.seal_for_stop();
        let MemoryPlan { ahead_ms, nonce_ttl_ms, .. } = self.plan;
        let left = Kept { ahead_ms, nonce_ttl_ms }.before(&self.memory.snapshot());
        let sealed = sealer
            .seal(Purpose::Snapshot, b"run", 1, &left)
            .map_err(|error| ContinuityError::Sealing(error.to_string()))?;
        Ok(self.durable.end_run(sealed).await?)
    }
}

/// The floor over all that can have been granted up to `last` on the wall clock.
fn floor_at(last: WallMs, ahead_ms: u64) -> WallMs {
    last.plus(ahead_ms).plus(SKEW_MS)
}

/// What a run leaves beside its memory: by which settings it judged, for the next may have others.
struct Kept {
    ahead_ms: u64,
    nonce_ttl_ms: u64,
}

impl Kept {
    /// Two numbers, little-endian, before the snapshot.
    const LEN: usize = 16;

    fn before(&self, snapshot: &[u8]) -> Zeroizing<Vec<u8>> {
        // At its full length from the start, so that no copy is left behind by growth.
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::LEN + snapshot.len()));
        bytes.extend_from_slice(&self.ahead_ms.to_le_bytes());
        bytes.extend_from_slice(&self.nonce_ttl_ms.to_le_bytes());
        bytes.extend_from_slice(snapshot);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&ahead, rest) = bytes.split_first_chunk()?;
        let (&ttl, snapshot) = rest.split_first_chunk()?;
        let kept =
            Self { ahead_ms: u64::from_le_bytes(ahead), nonce_ttl_ms: u64::from_le_bytes(ttl) };
        Some((kept, snapshot))
    }
}

fn behind(memory: MemoryStore, floor: WallMs) -> MemoryStore {
    memory.set_replay_floor(floor);
    memory
}

impl std::fmt::Debug for Continuity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Continuity")
    }
}

//! What the process holds in memory, across a stop or a crash.
//!
//! While requests are admitted, a mark is on disk: the wall clock, never older than a second, and how
//! far stamps may be ahead of it; the memory of nonces grants nothing beyond. So after a crash the mark
//! tells up to which stamp requests may have been admitted whose nonces are lost, and the replay floor
//! is drawn there. It is drawn there, too, where nonces are remembered and not for long enough: after
//! a wall clock that was set back, and for a window that became wider.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_keys::{Purpose, Sealer};
use edgeward_store::durable::{Durable, LastRun, Sealed};
use edgeward_store::memory::MemoryStore;
use edgeward_store::shared::Claims as _;
use edgeward_store::{Clock, StoreError};
use tokio::sync::{Mutex, Notify};
use zeroize::Zeroizing;

/// A mark permits claims for so long after the moment that it names, in milliseconds.
const LEASE_MS: u64 = 1_000;
/// A floor lies this much beyond the last possible stamp, in milliseconds: clocks of nodes differ.
const SKEW_MS: u64 = 500;
/// While there are claims the mark is renewed this often.
const RENEWAL: Duration = Duration::from_millis(250);

/// So long a mark may take: less than a second, so that whoever waits learns of its failure.
const MARK_WAIT: Duration = Duration::from_millis(700);
/// So long a request waits for a mark, whatever happens.
const RENEWAL_WAIT: Duration = Duration::from_millis(1_000);

/// Keeps the mark of one process fresh.
pub struct Continuity {
    durable: Arc<dyn Durable>,
    memory: Arc<MemoryStore>,
    clock: Arc<dyn Clock>,
    /// When the last mark was written; none once the run has ended, after which none may follow:
    /// a mark says that the run goes on, and would void what it left.
    renewing: Mutex<Option<WallMs>>,
    /// How often a mark could not be written; raised before `renewing` is let go.
    failures: AtomicU64,
    wanted: Notify,
    /// The wall clock less the monotonic one, in milliseconds, at its highest since the floor was
    /// drawn; the runs before this one counted in.
    highest: AtomicI64,
    /// No claim was ever granted, in this run or before, whose timestamp is later.
    latest_stamp: AtomicU64,
    plan: MemoryPlan,
    /// By what nonces may live that an earlier run has granted.
    older: Older,
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
    /// How long a nonce is remembered after the moment of its timestamp, at least.
    fn outlasts_ms(&self) -> u64 {
        self.nonce_ttl_ms.saturating_sub(self.ahead_ms)
    }

    /// By how much the wall clock may be set back without a nonce being forgotten, that is remembered
    /// for `outlasts_ms` after the moment of its timestamp, before the window has left it behind.
    /// `None` when it is forgotten too early in any case.
    fn spare_ms(&self, outlasts_ms: u64) -> Option<u64> {
        outlasts_ms.checked_sub(self.window_ms)?.checked_sub(SKEW_MS)
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
        // Before what was left is taken up: from here on it is watched whether the clock is set back.
        let began = clock.now();
        let (memory, latest, kept) = match durable.begin_run().await? {
            LastRun::None => (fresh(), WallMs(0), None),
            LastRun::Shared => {
                // Nothing of what a shared store has granted is known here.
                let latest = began.wall.plus(SKEW_MS).plus(plan.ahead_ms);
                let floor = latest.plus(SKEW_MS);
                tracing::warn!(
                    floor_ms = floor.0,
                    "nonces were remembered by a shared store: no request stamped up to the floor is accepted"
                );
                (behind(fresh(), floor), latest, None)
            }
            LastRun::Unclean { mark } => {
                let latest = mark.plus(LEASE_MS);
                let floor = latest.plus(SKEW_MS);
                tracing::warn!(
                    floor_ms = floor.0,
                    wait_ms = floor.since(began.wall),
                    "the last run did not stop in order: no request stamped up to the floor is accepted"
                );
                (behind(fresh(), floor), latest, None)
            }
            LastRun::Clean { snapshot, mark } => {
                let latest = mark.map_or(WallMs(0), |mark| mark.plus(LEASE_MS));
                match Self::resume(&snapshot, sealer, &clock, plan) {
                    Ok((memory, kept)) => (memory, latest, Some(kept)),
                    Err(error) => {
                        // It is lost, so that this start is like one after a crash right now.
                        let now = began.wall.plus(LEASE_MS).plus(plan.ahead_ms);
                        let latest = latest.max(now);
                        let floor = latest.plus(SKEW_MS);
                        tracing::error!(%error, floor_ms = floor.0, "the last run's memory could not be read");
                        (behind(fresh(), floor), latest, None)
                    }
                }
            }
        };
        memory.require_mark();
        let back_ms = kept.as_ref().map_or(0, |kept| kept.reached.since(began.wall));
        let mut this = Self {
            durable,
            memory: Arc::new(memory),
            clock,
            renewing: Mutex::new(Some(WallMs(0))),
            failures: AtomicU64::new(0),
            wanted: Notify::new(),
            highest: AtomicI64::new(offset(began).saturating_add(signed(back_ms))),
            latest_stamp: AtomicU64::new(latest.0),
            plan,
            older: kept.map_or_else(Older::default, |kept| kept.older(plan, began.mono)),
        };
        this.watch_clock(began);
        if plan.spare_ms(this.outlast_ms(began.mono)).is_none() {
            // It would take what was forgotten already, rightly by the window before.
            this.draw_floor("the window is wider than earlier runs remembered nonces for");
            this.older = Older::default();
        }
        Ok(Arc::new(this))
    }

    fn resume(
        snapshot: &Sealed,
        sealer: &Sealer,
        clock: &Arc<dyn Clock>,
        plan: MemoryPlan,
    ) -> Result<(MemoryStore, Kept), String> {
        let bytes = sealer
            .open(Purpose::Snapshot, b"run", 1, snapshot)
            .map_err(|error| error.to_string())?;
        let (kept, bytes) = Kept::read(&bytes).ok_or("it is cut short")?;
        let ahead_ms = plan.ahead_ms.max(kept.ahead_ms);
        let memory = MemoryStore::restore(bytes, Arc::clone(clock), plan.nonce_capacity, ahead_ms)
            .map_err(|error| error.to_string())?;
        Ok((memory, kept))
    }

    /// The memory of this run.
    pub fn memory(&self) -> &Arc<MemoryStore> {
        &self.memory
    }

    /// Makes a claim under the watch of the clock. `None` when the floor went up meanwhile: what the
    /// claim was held against is void then.
    pub async fn watched<T>(&self, claim: impl Future<Output = T>) -> Option<T> {
        self.watch_clock(self.clock.now());
        let floor = self.memory.highest_floor();
        let made = claim.await;
        self.watch_clock(self.clock.now());
        (self.memory.highest_floor() == floor).then_some(made)
    }

    /// Looks, beside a claim, whether the wall clock was set back further than the memory of nonces
    /// reaches. Nonces are remembered by time that passes; after such a step they would be forgotten
    /// before the wall clock shows their timestamps once more, so the floor goes over all that can
    /// have been granted.
    fn watch_clock(&self, now: Now) {
        let offset = offset(now);
        let highest = self.highest.fetch_max(offset, Ordering::SeqCst).max(offset);
        let back_ms = u64::try_from(highest.saturating_sub(offset)).unwrap_or(0);
        if back_ms == 0 {
            return;
        }
        let spare_ms = self.plan.spare_ms(self.outlast_ms(now.mono)).unwrap_or(0);
        if back_ms > spare_ms {
            self.draw_floor("the wall clock was set back");
            self.highest.store(offset, Ordering::SeqCst);
        }
    }

    /// The floor goes over all that was ever granted.
    fn draw_floor(&self, why: &str) {
        let latest = WallMs(self.latest_stamp.load(Ordering::SeqCst));
        if latest == WallMs(0) {
            return;
        }
        let floor = latest.plus(SKEW_MS);
        self.memory.set_replay_floor(floor);
        tracing::error!(
            floor_ms = floor.0,
            "{why}: no request stamped up to the floor is accepted"
        );
    }

    /// How long any nonce is remembered after the moment of its timestamp, of those above the floor.
    fn outlast_ms(&self, now: MonoMs) -> u64 {
        let outlasts_ms = self.plan.outlasts_ms();
        if now < self.older.until { outlasts_ms.min(self.older.outlasts_ms) } else { outlasts_ms }
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

    /// Writes a fresh mark now, once for everybody who waits, and lets claims go on. Who waits shares
    /// the failure as well, and nobody waits longer than a second.
    ///
    /// # Errors
    /// When it could not be written; claims stay refused.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let failures = self.failures.load(Ordering::SeqCst);
        let renewing = async {
            let mut written = self.renewing.lock().await;
            if self.failures.load(Ordering::SeqCst) != failures {
                return Err(late("another one's attempt at the mark of the clock has just failed"));
            }
            self.write_mark(&mut written).await.inspect_err(|_| {
                self.failures.fetch_add(1, Ordering::SeqCst);
            })
        };
        let in_time = tokio::time::timeout(RENEWAL_WAIT, renewing).await;
        in_time.unwrap_or_else(|_| Err(late("the mark of the clock took too long")))
    }

    async fn write_mark(&self, written: &mut Option<WallMs>) -> Result<(), StoreError> {
        let Some(last) = *written else {
            return Err(late("the run has ended"));
        };
        let now = self.clock.now().wall;
        if now >= last && now.since(last) < LEASE_MS / 2 {
            return Ok(());
        }
        // With what it lets stamps be ahead: the next run may have another allowance.
        let mark = now.plus(self.plan.ahead_ms);
        tokio::time::timeout(MARK_WAIT, self.durable.write_mark(mark))
            .await
            .unwrap_or_else(|_| Err(late("the mark of the clock took too long")))?;
        *written = Some(now);
        self.latest_stamp.fetch_max(mark.plus(LEASE_MS).0, Ordering::SeqCst);
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
        let now = self.clock.now();
        // What this run has missed of a clock that was set back is counted in too.
        let highest = self.highest.load(Ordering::SeqCst).max(offset(now));
        let back_ms = u64::try_from(highest.saturating_sub(offset(now))).unwrap_or(0);
        let kept = Kept {
            ahead_ms: self.plan.ahead_ms,
            nonce_ttl_ms: self.plan.nonce_ttl_ms,
            reached: now.wall.plus(back_ms),
            older_outlasts_ms: self.older.outlasts_ms,
            older_left_ms: self.older.until.since(now.mono),
        };
        let left = kept.before(&self.memory.snapshot());
        let sealed = sealer
            .seal(Purpose::Snapshot, b"run", 1, &left)
            .map_err(|error| ContinuityError::Sealing(error.to_string()))?;
        Ok(self.durable.end_run(sealed).await?)
    }
}

/// The wall clock less the monotonic one.
fn offset(now: Now) -> i64 {
    signed(now.wall.0).saturating_sub(signed(now.mono.0))
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// By what nonces live that a run with other settings has granted.
#[derive(Debug, Clone, Copy)]
struct Older {
    /// How long one is remembered after the moment of its timestamp, at least.
    outlasts_ms: u64,
    /// From here on no window that this run's lifetime of nonces permits takes their timestamps.
    until: MonoMs,
}

impl Default for Older {
    fn default() -> Self {
        Self { outlasts_ms: u64::MAX, until: MonoMs(0) }
    }
}

/// What a run leaves beside its memory: by which settings it judged, for the next may have others.
struct Kept {
    ahead_ms: u64,
    nonce_ttl_ms: u64,
    /// What the wall clock would show had it not been set back since the floor was drawn. Nonces do
    /// not age while no run is on, so it is against this that the next start's clock is held.
    reached: WallMs,
    /// [`Older::outlasts_ms`].
    older_outlasts_ms: u64,
    /// For how long it counts still while a run is on; 0 when it does not.
    older_left_ms: u64,
}

impl Kept {
    /// Five numbers, little-endian, before the snapshot.
    const LEN: usize = 40;

    /// What the next run has to remember of the settings before its own. Each timestamp is stale by
    /// any window that a lifetime of nonces permits once that lifetime has passed, and before it what
    /// the timestamp may have been ahead.
    fn older(&self, plan: MemoryPlan, began: MonoMs) -> Older {
        let carried = if self.older_left_ms > 0 { self.older_outlasts_ms } else { u64::MAX };
        if self.ahead_ms == plan.ahead_ms && self.nonce_ttl_ms == plan.nonce_ttl_ms {
            return Older { outlasts_ms: carried, until: began.plus(self.older_left_ms) };
        }
        // What is left of the time before is more than the oldest timestamps are ahead by now.
        let ahead_ms = self.ahead_ms.max(self.older_left_ms);
        Older {
            outlasts_ms: carried.min(self.nonce_ttl_ms.saturating_sub(self.ahead_ms)),
            until: began.plus(plan.nonce_ttl_ms).plus(ahead_ms),
        }
    }

    fn before(&self, snapshot: &[u8]) -> Zeroizing<Vec<u8>> {
        let Self { ahead_ms, nonce_ttl_ms, reached, older_outlasts_ms, older_left_ms } = self;
        // At its full length from the start, so that no copy is left behind by growth.
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::LEN + snapshot.len()));
        for number in [ahead_ms, nonce_ttl_ms, &reached.0, older_outlasts_ms, older_left_ms] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(snapshot);
        bytes
    }

    fn read(mut bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut number = || {
            let (&first, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            Some(u64::from_le_bytes(first))
        };
        let kept = Self {
            ahead_ms: number()?,
            nonce_ttl_ms: number()?,
            reached: WallMs(number()?),
            older_outlasts_ms: number()?,
            older_left_ms: number()?,
        };
        Some((kept, bytes))
    }
}

fn late(what: &str) -> StoreError {
    StoreError::Unavailable(what.to_owned())
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use edgeward_keys::{Entropy, Kek, SystemEntropy};
    use edgeward_store::clock::ManualClock;
    use tokio::task::JoinSet;

    use super::*;
    use crate::fake::FakeDurable;

    const NOW: WallMs = WallMs(1_764_000_000_000);

    async fn scene() -> (Arc<FakeDurable>, Arc<Continuity>) {
        scene_by(&ManualClock::at(NOW)).await
    }

    async fn scene_by(clock: &ManualClock) -> (Arc<FakeDurable>, Arc<Continuity>) {
        let durable = Arc::new(FakeDurable::new());
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let folder = tempfile::tempdir().unwrap();
        let kek = Kek::generate_file(&folder.path().join("kek"), &*entropy).unwrap();
        let sealer = Sealer::load(&*durable, &kek, &*clock, entropy).await.unwrap();
        let plan = MemoryPlan {
            nonce_capacity: 1_000,
            nonce_key: [7; 16],
            window_ms: 60_000,
            ahead_ms: 5_000,
            nonce_ttl_ms: 120_000,
        };
        let continuity = Continuity::begin(durable.clone(), &sealer, clock, plan).await.unwrap();
        (durable, continuity)
    }

    /// `count` requests that wait for the one mark that is being written.
    async fn waiting(
        count: usize,
        durable: &FakeDurable,
        continuity: &Arc<Continuity>,
    ) -> JoinSet<Result<(), StoreError>> {
        let (mut all, arrived) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..count {
            let (continuity, arrived) = (Arc::clone(continuity), Arc::clone(&arrived));
            all.spawn(async move {
                arrived.fetch_add(1, Ordering::SeqCst);
                continuity.renew().await
            });
        }
        while arrived.load(Ordering::SeqCst) < count || durable.marks.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        all
    }

    #[tokio::test]
    async fn a_claim_is_void_when_the_clock_is_set_back_while_it_is_made() {
        let clock = ManualClock::at(NOW);
        let (durable, continuity) = scene_by(&clock).await;
        durable.let_mark.add_permits(1);
        continuity.renew().await.unwrap();
        assert_eq!(continuity.watched(async { "steady" }).await, Some("steady"));
        let set_back = async { clock.set_wall(NOW.minus(60_000)) };
        assert_eq!(continuity.watched(set_back).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_is_the_answer_to_all_who_waited_for_it() {
        let (durable, continuity) = scene().await;
        *durable.mark.lock().unwrap() = Err(late("a full disk"));
        let all = waiting(64, &durable, &continuity).await;
        durable.let_mark.add_permits(1);
        for answer in all.join_all().await {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        }
        assert_eq!(durable.marks.load(Ordering::SeqCst), 1);

        // Who comes later tries anew, and what succeeds counts for all as well.
        *durable.mark.lock().unwrap() = Ok(());
        let all = waiting(64, &durable, &continuity).await;
        durable.let_mark.add_permits(1);
        assert!(all.join_all().await.iter().all(Result::is_ok));
        assert_eq!(durable.marks.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_a_second_for_a_mark() {
        let (durable, continuity) = scene().await;
        let since = tokio::time::Instant::now();
        let all = waiting(64, &durable, &continuity).await;
        for answer in all.join_all().await {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        }
        assert!(since.elapsed() <= RENEWAL_WAIT, "{:?}", since.elapsed());
        assert_eq!(durable.marks.load(Ordering::SeqCst), 1);
    }
}

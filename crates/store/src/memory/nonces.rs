//! The nonces that this process has let through, each until it expires.
//!
//! A nonce counts once per agent. A false "fresh" lets a captured request through a second time; a
//! false "seen" or "full" refuses an honest client, who signs again. So everything here leans to the
//! second: lifetimes are rounded up, a live entry is never dropped to make room, and a full table
//! says so.
//!
//! Entries are 16-byte keyed fingerprints (SipHash-2-4, 128-bit output) of agent and nonce in 256
//! shards, each an open-addressing table behind its own lock that grows and shrinks alone, so that
//! growth never holds the whole table twice. Without the key nobody can aim at one shard or make two
//! pairs collide. 1,000,000 live nonces take about 32 MB.

mod shard;
mod snapshot;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::hash::Hasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use siphasher::sip128::{Hasher128, SipHasher24};
use zeroize::Zeroizing;

use shard::{Fingerprint, Found, Life, Place, Shard};
pub use snapshot::{NonceSnapshot, SnapshotError};

/// One shard for each value of a fingerprint's first byte.
const SHARDS: usize = 256;

/// The answer to [`NonceTable::insert`].
#[must_use = "only `Fresh` lets the request pass"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The pair was not known; it is remembered now.
    Fresh,
    /// The pair is known and has not expired: a replay.
    Seen,
    /// As many live entries as the table may hold; nothing was remembered.
    Full,
}

/// The answer to [`NonceTable::claim_with`].
#[must_use = "only `Fresh` lets the request pass"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed<T, E> {
    /// The pair was not known, the decision was yes, and the pair is remembered now.
    Fresh(T),
    /// The pair was not known, the decision was no, and the pair is as unused as before.
    Refused(E),
    /// The pair is known and has not expired: a replay. Nothing was decided.
    Seen,
    /// As many live entries as the table may hold. Nothing was decided or remembered.
    Full,
}

/// A bounded set of (agent, nonce) pairs with expiry, for many threads at once.
///
/// Times are milliseconds of one monotonic clock, handed in by the caller. Lifetimes are kept in
/// ticks of 64 ms, rounded up: a pair is remembered for at least its `ttl_ms` and less than 64 ms
/// longer.
pub struct NonceTable {
    key: Zeroizing<[u8; 16]>,
    capacity: usize,
    shards: Box<[Mutex<Shard>; SHARDS]>,
    /// Slots in use in all shards, expired ones too, and permits not yet spent.
    held: AtomicUsize,
    sweep: Mutex<Sweep>,
}

impl NonceTable {
    /// An empty table for at most `capacity` live entries. `key` is random and secret; it need not
    /// outlive the process. Memory is taken as entries come.
    #[must_use]
    pub fn new(key: [u8; 16], capacity: usize) -> Self {
        Self {
            key: Zeroizing::new(key),
            capacity,
            shards: Box::new(std::array::from_fn(|_| Mutex::default())),
            held: AtomicUsize::new(0),
            sweep: Mutex::new(Sweep { tick: 0, next: 0, left: SHARDS }),
        }
    }

    /// Remembers the pair for `ttl_ms` from `now_ms` on, unless it is known. Of many calls at once
    /// for one pair exactly one gets `Fresh`.
    pub fn insert(&self, agent: &[u8; 16], nonce: &[u8], now_ms: u64, ttl_ms: u64) -> Inserted {
        match self.claim_with(agent, nonce, now_ms, ttl_ms, || Ok::<(), Infallible>(())) {
            Claimed::Fresh(()) => Inserted::Fresh,
            Claimed::Refused(never) => match never {},
            Claimed::Seen => Inserted::Seen,
            Claimed::Full => Inserted::Full,
        }
    }

    /// Looks for the pair, lets `decide` say whether it may be used, and remembers it for `ttl_ms`
    /// from `now_ms` on if so: all in one step as far as other calls for this pair can tell.
    ///
    /// `decide` is called at most once, only for an unknown pair for which there is room, and while
    /// the pair's shard is locked: it must be short and must not use this table. A clock that it
    /// reads is no earlier than any time by which this pair can have been forgotten, so a timestamp
    /// checked there once more cannot slip past a thread that was asleep since it read `now_ms`.
    ///
    /// A lifetime beyond what 32 bits of ticks can hold (8.7 years) is answered with `Full`.
    pub fn claim_with<T, E>(
        &self,
        agent: &[u8; 16],
        nonce: &[u8],
        now_ms: u64,
        ttl_ms: u64,
        decide: impl FnOnce() -> Result<T, E>,
    ) -> Claimed<T, E> {
        let Some(life) = Life::from_ms(now_ms, ttl_ms) else {
            return Claimed::Full;
        };
        let fingerprint = self.fingerprint(agent, nonce);
        let mut spare = None;
        let (mut shard, place, permit) = loop {
            let shard = self.shard(fingerprint);
            match shard.find(fingerprint, life.now) {
                Found::Live => return Claimed::Seen,
                Found::Free(place @ Place::Expired(_)) => {
                    // Its slot is counted already. The spare goes back under the lock, so that a
                    // sweep that finds this slot live finds the spare too.
                    spare = None;
                    break (shard, place, spare);
                }
                Found::Free(place @ Place::Vacant(_)) => {
                    if let Some(permit) = spare.take().or_else(|| self.permit()) {
                        break (shard, place, Some(permit));
                    }
                }
            }
            // Other shards are swept without holding this one, so no two threads wait for each
            // other; the pair is then looked for again, with a permit in hand.
            drop(shard);
            spare = self.make_room(life.now);
            if spare.is_none() {
                return Claimed::Full;
            }
        };
        match decide() {
            Ok(value) => {
                self.put(&mut shard, place, permit, fingerprint, life);
                Claimed::Fresh(value)
            }
            Err(refusal) => Claimed::Refused(refusal),
        }
    }

    /// Whether the pair is remembered at `now_ms`. For looking only: the answer may be out of date
    /// when it arrives, so nothing is let through by it.
    #[must_use]
    pub fn contains(&self, agent: &[u8; 16], nonce: &[u8], now_ms: u64) -> bool {
        let fingerprint = self.fingerprint(agent, nonce);
        match self.shard(fingerprint).find(fingerprint, shard::tick(now_ms)) {
            Found::Live => true,
            Found::Free(_) => false,
        }
    }

    /// How many entries are live at `now_ms`. Walks the whole table, one shard's lock at a time.
    #[must_use]
    pub fn live(&self, now_ms: u64) -> usize {
        let now = shard::tick(now_ms);
        self.shards.iter().map(|shard| lock(shard).live(now).count()).sum()
    }

    /// How many entries are held: the live ones and those expired ones not yet swept. One load.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Drops what has expired at `now_ms`, gives its memory back, and says how many that were.
    /// Claims sweep as they need room; this is for a table that has gone quiet.
    pub fn sweep(&self, now_ms: u64) -> usize {
        let now = shard::tick(now_ms);
        let sweep_one = |shard: &Mutex<Shard>| {
            let freed = lock(shard).sweep(now);
            self.held.fetch_sub(freed, Ordering::Relaxed);
            freed
        };
        self.shards.iter().map(sweep_one).sum()
    }

    fn fingerprint(&self, agent: &[u8; 16], nonce: &[u8]) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        // The agent's part has a fixed length, so no two pairs give the same bytes.
        hasher.write(agent);
        hasher.write(nonce);
        Fingerprint(hasher.finish128().as_bytes())
    }

    #[expect(clippy::indexing_slicing, reason = "a byte cannot exceed an array of 256")]
    fn shard(&self, fingerprint: Fingerprint) -> MutexGuard<'_, Shard> {
        // INVARIANT: SHARDS is 256 and the index comes from one byte.
        lock(&self.shards[usize::from(fingerprint.0[0])])
    }

    fn put(
        &self,
        shard: &mut Shard,
        place: Place,
        permit: Option<Permit<'_>>,
        fingerprint: Fingerprint,
        life: Life,
    ) {
        let counted = shard.occupied() + usize::from(permit.is_some());
        shard.put(place, fingerprint, life);
        if let Some(permit) = permit {
            permit.spend();
        }
        // A rebuild on the way has dropped expired entries.
        self.held.fetch_sub(counted.saturating_sub(shard.occupied()), Ordering::Relaxed);
    }

    /// The right to fill one more slot, if that keeps within the capacity.
    fn permit(&self) -> Option<Permit<'_>> {
        let more = |held: usize| (held < self.capacity).then(|| held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Permit { held: &self.held })
    }

    /// Sweeps shards in turn until one gives something up. `None` says that at this tick every
    /// entry is live. Entries expire on ticks only, so each shard is swept at most once a tick,
    /// however many calls find the table full.
    fn make_room(&self, now: u64) -> Option<Permit<'_>> {
        let mut sweep = lock(&self.sweep);
        if let Some(permit) = self.permit() {
            return Some(permit);
        }
        if now > sweep.tick {
            sweep.tick = now;
            sweep.left = SHARDS;
        }
        while sweep.left > 0 {
            let shard = self.shards.get(sweep.next)?;
            sweep.next = (sweep.next + 1) % SHARDS;
            sweep.left -= 1;
            let freed = lock(shard).sweep(sweep.tick);
            self.held.fetch_sub(freed, Ordering::Relaxed);
            if let Some(permit) = self.permit() {
                return Some(permit);
            }
        }
        None
    }
}

impl fmt::Debug for NonceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceTable")
            .field("capacity", &self.capacity)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

/// Where the search for room stands: shards `next` and on, `left` of them, are not yet swept at
/// `tick`.
struct Sweep {
    tick: u64,
    next: usize,
    left: usize,
}

/// One entry's share of the capacity; given back when dropped unspent, also by a panic.
struct Permit<'a> {
    held: &'a AtomicUsize,
}

impl Permit<'_> {
    fn spend(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A caller's panic inside `decide` poisons a lock and nothing else: shards are changed only after
/// it has answered.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

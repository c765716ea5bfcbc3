//! One shard: an open-addressing table with linear probing. An expired entry stays in its slot, and
//! so keeps the chains through it whole, until it is reused or the shard is rebuilt.

/// Expiry is kept in ticks of this many milliseconds.
pub(super) const TICK_MS: u64 = 64;
const MIN_SLOTS: usize = 16;

/// The whole tick that `now_ms` lies in.
pub(super) fn tick(now_ms: u64) -> u64 {
    now_ms / TICK_MS
}

/// The keyed hash of one pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) [u8; 16]);

/// From when until when an entry lives, in ticks of the monotonic clock: it is live at every tick
/// before `end`.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) now: u64,
    end: u64,
}

impl Life {
    /// Rounded up to whole ticks, at least one; `None` if 32 bits cannot hold it.
    pub(super) fn from_ms(now_ms: u64, ttl_ms: u64) -> Option<Self> {
        let end = now_ms.checked_add(ttl_ms.max(1))?.div_ceil(TICK_MS);
        Self { now: tick(now_ms), end }.bounded()
    }

    /// `ticks` from the end of the tick of `now_ms`.
    pub(super) fn from_ticks(now_ms: u64, ticks: u32) -> Option<Self> {
        let end = now_ms.div_ceil(TICK_MS) + u64::from(ticks);
        Self { now: tick(now_ms), end }.bounded()
    }

    fn bounded(self) -> Option<Self> {
        u32::try_from(self.end - self.now).is_ok().then_some(self)
    }
}

/// 20 bytes. `end` counts ticks from the shard's epoch; 0 marks a slot never used.
#[derive(Clone, Copy)]
struct Slot {
    fingerprint: Fingerprint,
    end: u32,
}

const VACANT: Slot = Slot { fingerprint: Fingerprint([0; 16]), end: 0 };

/// What [`Shard::find`] found.
pub(super) enum Found {
    Live,
    Free(Place),
}

/// A slot that may be written.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Expired(usize),
    Vacant(usize),
}

/// The epoch is the tick that the slots' `end`s count from. It moves up with every rebuild, and a
/// rebuild is forced when an `end` would not fit its 32 bits, so there is no wrap-around however long
/// the process lives.
#[derive(Default)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    occupied: usize,
    epoch: u64,
}

impl Shard {
    /// Slots in use, by live and by expired entries.
    pub(super) fn occupied(&self) -> usize {
        self.occupied
    }

    /// Looks for an entry that is live at tick `now`, or for where it would go.
    pub(super) fn find(&self, fingerprint: Fingerprint, now: u64) -> Found {
        let now = self.since_epoch(now);
        let mut expired = None;
        for (index, slot) in self.chain(fingerprint) {
            if slot.end == 0 {
                return Found::Free(expired.unwrap_or(Place::Vacant(index)));
            }
            if slot.end <= now {
                expired.get_or_insert(Place::Expired(index));
            } else if slot.fingerprint == fingerprint {
                return Found::Live;
            }
        }
        // Only a shard without slots has no vacant one; `put` grows it first.
        Found::Free(expired.unwrap_or(Place::Vacant(0)))
    }

    /// Writes an entry that [`Shard::find`] has just not found, at the place that it named; grows or
    /// cleans the shard first when its slots run low.
    pub(super) fn put(&mut self, place: Place, fingerprint: Fingerprint, life: Life) {
        let index = match place {
            Place::Expired(index) if self.holds(life) => index,
            Place::Vacant(index) if self.holds(life) && self.occupied < self.limit() => {
                self.occupied += 1;
                index
            }
            Place::Expired(_) | Place::Vacant(_) => {
                self.rebuild(life.now);
                self.occupied += 1;
                self.vacancy(fingerprint)
            }
        };
        // A caller whose `now` is behind the epoch may be late by its whole lifetime; 0 is taken.
        let end = life.end.saturating_sub(self.epoch).max(1);
        // INVARIANT: `put` rebuilds where `end` does not fit, and `Life` is bounded.
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        self.write(index, Slot { fingerprint, end });
    }

    /// Drops what has expired at tick `now` and says how many entries that were.
    pub(super) fn sweep(&mut self, now: u64) -> usize {
        let before = self.occupied;
        if self.live(now).count() < before {
            self.rebuild(now);
        }
        before - self.occupied
    }

    /// Every entry that is live at tick `now`, with the ticks it has left, counting the present one.
    pub(super) fn live(&self, now: u64) -> impl Iterator<Item = (Fingerprint, u32)> {
        let now = self.since_epoch(now);
        let live = move |slot: &&Slot| slot.end > now;
        self.slots.iter().filter(live).map(move |slot| (slot.fingerprint, slot.end - now))
    }

    /// Moves the live entries into slots for 1.6 times as many: the next rebuild is 28 % of them
    /// away, and until they expire they take at most 32 bytes each.
    fn rebuild(&mut self, now: u64) {
        let live = self.live(now).count();
        let fresh = vec![VACANT; ((live + 1) * 8 / 5).max(MIN_SLOTS)];
        let old = std::mem::replace(&mut self.slots, fresh);
        // What is live at `now` ends after it, so the epoch can move up to it. It never moves back.
        let shift = self.since_epoch(now);
        self.epoch = self.epoch.max(now);
        self.occupied = live;
        for slot in old.into_iter().filter(|slot| slot.end > shift) {
            let index = self.vacancy(slot.fingerprint);
            self.write(index, Slot { end: slot.end - shift, ..slot });
        }
    }

    /// How many slots may be in use before a rebuild: four in five.
    fn limit(&self) -> usize {
        self.slots.len() * 4 / 5
    }

    fn holds(&self, life: Life) -> bool {
        u32::try_from(life.end.saturating_sub(self.epoch)).is_ok()
    }

    /// A tick before the epoch counts as the epoch, at which everything is live.
    fn since_epoch(&self, now: u64) -> u32 {
        u32::try_from(now.saturating_sub(self.epoch)).unwrap_or(u32::MAX)
    }

    /// The slots in the order in which a fingerprint tries them.
    fn chain(&self, fingerprint: Fingerprint) -> impl Iterator<Item = (usize, &Slot)> {
        let [_, _, _, _, a, b, c, d, ..] = fingerprint.0;
        // A 32-bit fraction of the length: any length will do, not only powers of two.
        let start = (u64::from(u32::from_le_bytes([a, b, c, d])) * self.slots.len() as u64) >> 32;
        let start = usize::try_from(start).unwrap_or(0);
        let slots = self.slots.iter().enumerate();
        slots.clone().skip(start).chain(slots.take(start))
    }

    fn vacancy(&self, fingerprint: Fingerprint) -> usize {
        // INVARIANT: called after a rebuild, which leaves vacant slots.
        self.chain(fingerprint).find(|(_, slot)| slot.end == 0).map_or(0, |(index, _)| index)
    }

    #[expect(clippy::indexing_slicing, reason = "to lose an entry in silence would be worse")]
    fn write(&mut self, index: usize, slot: Slot) {
        // INVARIANT: the index comes from `chain` over these very slots.
        self.slots[index] = slot;
    }
}

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;

use super::shard::TICK_MS;
use super::*;

const KEY: [u8; 16] = [7; 16];
const A: [u8; 16] = [0xa; 16];
const B: [u8; 16] = [0xb; 16];

fn table(capacity: usize) -> NonceTable {
    NonceTable::new(KEY, capacity)
}

fn nonce(number: usize) -> [u8; 8] {
    (number as u64).to_le_bytes()
}

/// Inserts `numbers` as nonces of agent A, each of which must be fresh.
fn fill(table: &NonceTable, numbers: std::ops::Range<usize>, now_ms: u64, ttl_ms: u64) {
    for number in numbers {
        assert_eq!(table.insert(&A, &nonce(number), now_ms, ttl_ms), Inserted::Fresh, "{number}");
    }
}

#[test]
fn the_hash_is_siphash_2_4_with_128_bits() {
    // Key 00 to 0f; the first two of the reference vectors: no input, and the byte 00.
    let key: [u8; 16] = std::array::from_fn(|i| i as u8);
    let hash = |input: &[u8]| SipHasher24::new_with_key(&key).hash(input).as_bytes();
    assert_eq!(hash(&[]), 0x930255c71472f66de6a825ba047f81a3_u128.to_le_bytes());
    assert_eq!(hash(&[0]), 0x45fc229b1159763444af996bd8c187da_u128.to_le_bytes());
    // Agent and nonce are hashed as one input.
    let both = NonceTable::new(key, 1).fingerprint(&A, b"nonce");
    assert_eq!(both.0, hash(&[&A[..], b"nonce"].concat()));
}

#[test]
fn a_pair_is_fresh_once_for_its_lifetime() {
    // (now, ttl, a time at which it must be remembered, a time at which it must be forgotten)
    let cases = [
        (0, 1, 0, 64),
        (0, 64, 63, 64),
        (0, 65, 64, 128),
        (63, 1, 63, 64),
        (63, 2, 64, 128),
        (1_000, 120_000, 120_999, 121_024),
        (0, 0, 0, 64),
        // Past what 32 bits of ticks counted from 0 could say.
        (TICK_MS << 40, 120_000, (TICK_MS << 40) + 119_999, (TICK_MS << 40) + 120_000),
    ];
    for (now, ttl, known, forgotten) in cases {
        let t = table(1);
        let case = format!("now {now} ttl {ttl}");
        assert!(!t.contains(&A, b"n", now), "{case}");
        assert_eq!(t.insert(&A, b"n", now, ttl), Inserted::Fresh, "{case}");
        assert_eq!(t.insert(&A, b"n", known, ttl), Inserted::Seen, "{case}");
        assert!(t.contains(&A, b"n", known) && t.live(known) == 1, "{case}");
        assert!(!t.contains(&A, b"n", forgotten) && t.live(forgotten) == 0, "{case}");
        assert_eq!(t.insert(&A, b"n", forgotten, ttl), Inserted::Fresh, "{case}");
    }
}

#[test]
fn pairs_differ_by_agent_and_by_nonce() {
    let t = table(10);
    assert_eq!(t.insert(&A, b"n", 0, 1_000), Inserted::Fresh);
    assert_eq!(t.insert(&B, b"n", 0, 1_000), Inserted::Fresh);
    assert_eq!(t.insert(&A, b"m", 0, 1_000), Inserted::Fresh);
    assert_eq!(t.insert(&A, b"n", 0, 1_000), Inserted::Seen);
    assert_eq!(t.held(), 3);
}

#[test]
fn a_lifetime_that_cannot_be_kept_is_refused() {
    let t = table(10);
    let most = u64::from(u32::MAX) * TICK_MS;
    assert_eq!(t.insert(&A, b"0", 1, u64::MAX), Inserted::Full);
    assert_eq!(t.insert(&A, b"1", 0, most + 1), Inserted::Full);
    assert_eq!(t.insert(&A, b"2", 0, most), Inserted::Fresh);
    assert!(t.contains(&A, b"2", most - 1));
}

#[test]
fn a_late_thread_neither_loses_nor_wraps() {
    let t = table(1_000);
    // These rebuild every shard at a later time than the next caller's.
    fill(&t, 0..1_000, 1_000_000, 1_000_000);
    assert_eq!(t.sweep(2_000_000), 1_000);
    assert_eq!(t.insert(&A, b"late", 500_000, 10), Inserted::Fresh);
    assert_eq!(t.insert(&A, b"late", 500_000, 10), Inserted::Seen);
    fill(&t, 1_000..1_500, 500_000, 3_000_000);
    assert_eq!(t.live(3_499_999), 500);
}

#[test]
fn the_decision_is_asked_only_for_a_fresh_pair_and_binds() {
    let t = table(1);
    let no = t.claim_with(&A, b"n", 0, 1_000, || Err::<(), _>("slow down"));
    assert_eq!(no, Claimed::Refused("slow down"));
    assert_eq!((t.held(), t.contains(&A, b"n", 0)), (0, false));
    let yes = t.claim_with(&A, b"n", 0, 1_000, || Ok::<_, ()>(5));
    assert_eq!(yes, Claimed::Fresh(5));
    let unasked = || -> Result<(), ()> { panic!("asked") };
    assert_eq!(t.claim_with(&A, b"n", 0, 1_000, unasked), Claimed::Seen);
    assert_eq!(t.claim_with(&A, b"m", 0, 1_000, unasked), Claimed::Full);
    // A refusal leaves an expired slot as it was.
    let no = t.claim_with(&A, b"n", 2_000, 1_000, || Err::<(), _>(()));
    assert_eq!(no, Claimed::Refused(()));
    assert_eq!((t.live(2_000), t.held()), (0, 1));
}

#[test]
fn a_panic_in_the_decision_costs_nothing_but_itself() {
    let t = table(1);
    let claim = || t.claim_with(&A, b"n", 0, 1_000, || -> Result<(), ()> { panic!("on purpose") });
    assert!(catch_unwind(AssertUnwindSafe(claim)).is_err());
    assert_eq!(t.held(), 0);
    assert_eq!(t.insert(&A, b"n", 0, 1_000), Inserted::Fresh);
    assert_eq!(t.insert(&A, b"n", 0, 1_000), Inserted::Seen);
}

#[test]
fn growth_and_rebuilds_lose_nothing_live() {
    let t = table(100_000);
    fill(&t, 0..20_000, 0, 10_000);
    // Among others that come and go, so that every shard is rebuilt many times.
    for round in 0..20 {
        let first = 100_000 + round * 3_000;
        fill(&t, first..first + 3_000, round as u64 * 400, 64);
    }
    assert_eq!(t.live(9_999), 20_000);
    for number in 0..20_000 {
        assert_eq!(t.insert(&A, &nonce(number), 9_999, 10), Inserted::Seen, "{number}");
    }
    assert!(t.held() < 30_000, "the expired are dropped by rebuilds: {}", t.held());
    t.sweep(9_999);
    assert_eq!((t.held(), t.live(9_999)), (20_000, 20_000));
    assert_eq!(t.sweep(10_048), 20_000);
    assert_eq!(t.held(), 0);
}

#[test]
fn full_means_full_of_live_entries_and_ends_when_they_expire() {
    let t = table(1_000);
    fill(&t, 0..400, 0, 1_000);
    fill(&t, 400..1_000, 0, 2_000);
    assert_eq!(t.insert(&A, b"one more", 999, 10_000), Inserted::Full);
    assert_eq!(t.insert(&A, &nonce(0), 999, 10_000), Inserted::Seen, "known although full");
    // Full again within the tick, and never at the cost of a live entry.
    assert_eq!(t.insert(&A, b"one more", 999, 10_000), Inserted::Full);
    assert_eq!((t.live(999), t.held()), (1_000, 1_000));
    // As many as have expired fit in, not one more.
    fill(&t, 1_000..1_400, 1_024, 10_000);
    assert_eq!(t.insert(&A, b"one more", 1_024, 10_000), Inserted::Full);
    for number in 400..1_400 {
        assert!(t.contains(&A, &nonce(number), 1_999), "{number}");
    }
    assert_eq!(table(0).insert(&A, b"n", 0, 1), Inserted::Full);
}

#[test]
fn of_64_threads_exactly_one_wins_each_round() {
    const ROUNDS: usize = 1_000;
    let t = table(ROUNDS);
    let start = Barrier::new(64);
    let wins: Vec<AtomicUsize> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for (round, wins) in wins.iter().enumerate() {
                    start.wait();
                    match t.insert(&A, &nonce(round), 0, 1_000) {
                        Inserted::Fresh => wins.fetch_add(1, Ordering::Relaxed),
                        Inserted::Seen => 0,
                        Inserted::Full => panic!("there is room"),
                    };
                }
            });
        }
    });
    assert!(wins.iter().all(|wins| wins.load(Ordering::Relaxed) == 1));
    assert_eq!(t.held(), ROUNDS);
}

#[test]
fn threads_that_make_room_together_fill_the_table_exactly() {
    const CAPACITY: usize = 4_000;
    for round in 0..20 {
        let t = table(CAPACITY);
        fill(&t, 0..CAPACITY, 0, 64);
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for thread in 1..=8 {
                let (t, start) = (&t, &start);
                let first = thread * CAPACITY;
                scope.spawn(move || {
                    start.wait();
                    fill(t, first..first + CAPACITY / 8, 64, 1_000);
                });
            }
        });
        assert_eq!((t.held(), t.live(64)), (CAPACITY, CAPACITY), "round {round}");
        assert_eq!(t.insert(&A, b"one more", 64, 1), Inserted::Full);
    }
}

#[test]
fn a_snapshot_carries_what_is_live_and_for_how_long() {
    let t = table(5_000);
    fill(&t, 0..1_000, 0, 1_000);
    fill(&t, 1_000..3_000, 0, 60_000);
    let snapshot = t.export(10_000);
    assert_eq!(snapshot.as_bytes().len(), 24 + 2_000 * 20 + 32);
    // The new process's clock starts elsewhere; there is less room than entries.
    for now in [3, 900_000_000] {
        let t = NonceTable::import(snapshot.as_bytes(), now, 1_500).unwrap();
        assert_eq!((t.held(), t.live(now)), (2_000, 2_000));
        assert_eq!(t.insert(&A, &nonce(0), now, 10), Inserted::Full);
        assert_eq!(t.live(now + 49_999), 2_000, "50 s were left");
        assert_eq!(t.insert(&A, &nonce(2_999), now + 49_999, 10), Inserted::Seen);
        assert_eq!(t.live(now + 50_000 + 2 * TICK_MS), 0);
        assert_eq!(t.insert(&A, &nonce(0), now + 51_000, 10), Inserted::Fresh);
    }
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let t = table(10);
    fill(&t, 0..3, 0, 1_000);
    let whole = t.export(0).as_bytes().to_vec();
    assert!(NonceTable::import(&whole, 0, 10).is_ok());
    for length in 0..whole.len() {
        assert!(NonceTable::import(&whole[..length], 0, 10).is_err(), "cut to {length}");
    }
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 1;
        let expected = match index {
            0..7 => SnapshotError::NotASnapshot,
            7 => SnapshotError::UnknownVersion(0),
            _ => SnapshotError::Damaged,
        };
        assert_eq!(NonceTable::import(&changed, 0, 10).unwrap_err(), expected, "byte {index}");
    }
    let longer = [&whole[..], &[0]].concat();
    assert_eq!(NonceTable::import(&longer, 0, 10).unwrap_err(), SnapshotError::Damaged);
}

#[test]
fn an_impossible_entry_is_refused() {
    let sealed = |entries: &[u8]| {
        let content = [&b"EWNONCE\x01"[..], &KEY, entries].concat();
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
        [&content, sum.as_ref()].concat()
    };
    let entry = |end: u32| [&[9; 16][..], &end.to_le_bytes()].concat();
    assert_eq!(NonceTable::import(&sealed(&entry(1)), 0, 10).unwrap().held(), 1);
    for entries in [entry(0), entry(1)[..19].to_vec(), [entry(1), entry(2)].concat()] {
        let refused = NonceTable::import(&sealed(&entries), 0, 10).unwrap_err();
        assert_eq!(refused, SnapshotError::ImpossibleEntry, "{entries:?}");
    }
}

#[test]
fn nothing_printed_gives_the_key_away() {
    let t = table(10);
    assert_eq!(format!("{t:?}"), "NonceTable { capacity: 10, held: 0, .. }");
    assert_eq!(format!("{:?}", t.export(0)), "NonceSnapshot(56 bytes)");
}

/// Fingerprints that start at one of two places and differ in their last two bytes only.
fn crowded(id: u16) -> Fingerprint {
    let mut bytes = [0; 16];
    bytes[7] = (id % 2) as u8 * 127;
    bytes[14..].copy_from_slice(&id.to_le_bytes());
    Fingerprint(bytes)
}

/// Puts an entry that must be fresh; times in ticks.
fn put(shard: &mut Shard, id: u16, now: u64, ttl: u32) {
    let life = Life::from_ms(now * TICK_MS, u64::from(ttl) * TICK_MS).unwrap();
    match shard.find(crowded(id), now) {
        Found::Live => panic!("{id} is known"),
        Found::Free(place) => shard.put(place, crowded(id), life),
    }
}

#[test]
fn the_longest_life_is_kept_whole_far_from_the_epoch() {
    let last = 1_000 + u64::from(u32::MAX) - 1;
    for expired in [0, 1] {
        // The shard's epoch is 0; at tick 1,000 the first entry has expired or has not.
        let mut shard = Shard::default();
        put(&mut shard, 0, 0, if expired == 1 { 10 } else { 2_000 });
        put(&mut shard, 2, 1_000, u32::MAX);
        assert_eq!(shard.live(1_000).count(), 2 - expired);
        assert_eq!((shard.live(last).count(), shard.live(last + 1).count()), (1, 0));
    }
}

#[test]
fn a_rebuild_by_a_late_thread_shortens_no_life() {
    let mut shard = Shard::default();
    (0..10).for_each(|id| put(&mut shard, id, 1_000, 500));
    (10..500).for_each(|id| put(&mut shard, id, 400, 1_100));
    assert_eq!((shard.live(1_499).count(), shard.live(1_500).count()), (500, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Insert { agent: u8, nonce: u8, ttl_ms: u64 },
    Refuse { agent: u8, nonce: u8 },
    Wait(u64),
    Sweep,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..2_u8, 0..20_u8, prop_oneof![1 => Just(0), 8 => 0..2_000_u64])
            .prop_map(|(agent, nonce, ttl_ms)| Step::Insert { agent, nonce, ttl_ms }),
        2 => (0..2_u8, 0..20_u8).prop_map(|(agent, nonce)| Step::Refuse { agent, nonce }),
        4 => (0..500_u64).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The table against a map from pair to the tick at which it is forgotten.
    #[test]
    fn the_table_does_as_a_map_does(
        start_ms in prop_oneof![0..1_000_u64, Just(TICK_MS << 33)],
        capacity in 0..40_usize,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut now = start_ms;
        let mut t = table(capacity);
        let mut model: HashMap<(u8, u8), u64> = HashMap::new();
        for step in steps {
            model.retain(|_, end| *end > now / TICK_MS);
            match step {
                Step::Insert { agent, nonce, ttl_ms } => {
                    let expected = if model.contains_key(&(agent, nonce)) {
                        Inserted::Seen
                    } else if model.len() >= capacity {
                        Inserted::Full
                    } else {
                        model.insert((agent, nonce), (now + ttl_ms.max(1)).div_ceil(TICK_MS));
                        Inserted::Fresh
                    };
                    prop_assert_eq!(t.insert(&[agent; 16], &[nonce], now, ttl_ms), expected);
                }
                Step::Refuse { agent, nonce } => {
                    let _ = t.claim_with(&[agent; 16], &[nonce], now, 500, || Err::<(), _>(()));
                }
                Step::Wait(ms) => now += ms,
                Step::Sweep => {
                    t.sweep(now);
                    prop_assert_eq!(t.held(), model.len());
                }
                Step::Restart => {
                    let snapshot = t.export(now);
                    let before = now / TICK_MS;
                    now = start_ms + 17;
                    t = NonceTable::import(snapshot.as_bytes(), now, capacity).unwrap();
                    for end in model.values_mut() {
                        *end = *end - before + now.div_ceil(TICK_MS);
                    }
                }
            }
            model.retain(|_, end| *end > now / TICK_MS);
            prop_assert_eq!(t.live(now), model.len());
            prop_assert!(t.held() <= capacity && t.held() >= model.len());
            for (agent, nonce) in model.keys() {
                prop_assert!(t.contains(&[*agent; 16], &[*nonce], now));
            }
        }
    }

    /// One shard with long chains: few starting places, and times that force a new epoch.
    #[test]
    fn a_crowded_shard_does_as_a_map_does(
        steps in prop::collection::vec((0..300_u16, 1..40_u64, 0..3_u64, 0..400_u32), 1..600),
    ) {
        let mut shard = Shard::default();
        let mut model: HashMap<u16, u64> = HashMap::new();
        let mut now = 0;
        for (id, ttl, wait, rare) in steps {
            now += if rare == 0 { 1 << 32 } else { wait };
            if rare < 10 {
                shard.sweep(now);
            }
            model.retain(|_, end| *end > now);
            let fingerprint = crowded(id);
            match shard.find(fingerprint, now) {
                Found::Live => prop_assert!(model.contains_key(&id)),
                Found::Free(place) => {
                    prop_assert!(!model.contains_key(&id));
                    let ttl = if rare == 1 { u64::from(u32::MAX) } else { ttl };
                    let life = Life::from_ms(now * TICK_MS, ttl * TICK_MS).unwrap();
                    shard.put(place, fingerprint, life);
                    model.insert(id, now + ttl);
                }
            }
            prop_assert_eq!(shard.live(now).count(), model.len());
            prop_assert!(shard.occupied() >= model.len());
        }
    }
}

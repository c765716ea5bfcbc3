use std::collections::VecDeque;
use std::sync::{Barrier, Mutex};
use std::thread;

use edgeward_core::limit::gcra::Rate;
use edgeward_wire::{MacKey, OwnerId, SessionId, SessionKey};

use super::*;
use crate::clock::ManualClock;
use crate::conformance::{self, Forge};

const START: WallMs = WallMs(1_764_000_000_000);
const PLENTY: Rate = Rate { per_sec: 1_000_000, burst: 1_000_000 };

fn store(capacity: usize) -> (Arc<MemoryStore>, ManualClock) {
    let clock = ManualClock::at(START);
    (Arc::new(MemoryStore::new(Arc::new(clock.clone()), [7; 16], capacity)), clock)
}

fn new(session: Session, key: SessionKey) -> NewSession {
    let owner = OwnerId::parse("owner").unwrap();
    NewSession { session, key, owner, scopes: Arc::new([]) }
}

fn session(number: u8, agent: u8, now: Now, life_ms: u64) -> (Session, SessionKey) {
    let key = SessionKey::from_bytes([number; 32]);
    let session = Session {
        id: SessionId::from_random(&[number; 32]).hash(),
        agent: AgentId::from_bytes([agent; 16]),
        epoch: 1,
        secret_version: 2,
        key: MacKey::of_session(&key),
        expires_at: now.mono.plus(life_ms),
        max_expires_at: now.mono.plus(2 * life_ms),
    };
    (session, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    let (store, clock) = store(100_000);
    conformance::claims(Arc::clone(&store), &clock).await;
    conformance::sessions(store, &clock).await;
}

#[tokio::test]
async fn it_conforms_when_full() {
    let (store, clock) = store(500);
    conformance::claims_when_full(&*store, &clock, 500).await;
}

#[tokio::test]
async fn it_conforms_above_a_floor_that_only_grows() {
    let (store, _) = store(10);
    assert_eq!(store.highest_floor(), None);
    store.set_replay_floor(START.minus(100));
    store.set_replay_floor(START.minus(200));
    conformance::claims_above_a_floor(&*store, START.minus(100)).await;
}

#[test]
fn nothing_is_granted_past_the_mark() {
    let (store, clock) = store(10);
    let forge = Forge::new(1, PLENTY);
    let claim = |nonce| store.claim(&forge.claim(clock.now().wall, nonce));
    assert_eq!(claim(Some("before-any")), Ok(ClaimOutcome::Granted));
    store.require_mark();
    for nonce in [None, Some("a-nonce-1")] {
        assert_eq!(claim(nonce), Err(StoreError::MarkLapsed));
    }
    store.allow_claims_until(START.plus(1_000));
    store.allow_claims_until(START);
    clock.advance(1_000);
    for nonce in [None, Some("a-nonce-1")] {
        assert_eq!(claim(nonce), Ok(ClaimOutcome::Granted));
    }
    clock.advance(1);
    for nonce in [None, Some("a-nonce-2")] {
        assert_eq!(claim(nonce), Err(StoreError::MarkLapsed));
    }
    // A wall clock that steps ahead outruns the mark at once.
    store.allow_claims_until(START.plus(2_000));
    clock.set_wall(START.plus(3_600_000));
    assert_eq!(claim(Some("a-nonce-2")), Err(StoreError::MarkLapsed));
    store.allow_claims_until(START.plus(3_600_000));
    assert_eq!(claim(Some("a-nonce-2")), Ok(ClaimOutcome::Granted));
}

#[test]
fn it_tells_whether_marks_are_needed() {
    let (store, _) = store(10);
    assert!(!store.claims_since_mark());
    let forge = Forge::new(1, PLENTY);
    assert_eq!(store.claim(&forge.claim(START, None)), Ok(ClaimOutcome::Granted));
    assert!(store.claims_since_mark());
    assert!(!store.claims_since_mark());
    store.require_mark();
    assert_eq!(store.claim(&forge.claim(START, None)), Err(StoreError::MarkLapsed));
    assert!(store.claims_since_mark(), "who claims in vain needs a mark too");
}

/// A clock that shows one moment after the other, as to a thread that sleeps between two looks.
#[derive(Debug)]
struct Looks(Mutex<VecDeque<Now>>);

impl Clock for Looks {
    fn now(&self) -> Now {
        let mut looks = self.0.lock().unwrap();
        if looks.len() > 1 { looks.pop_front().unwrap() } else { looks[0] }
    }
}

#[test]
fn a_thread_that_slept_before_the_decision_is_refused() {
    let at = |ms| Now { wall: START.plus(ms), mono: MonoMs(ms) };
    let sleepy = |ms| {
        let looks = Looks(Mutex::new([at(0), at(ms)].into()));
        MemoryStore::new(Arc::new(looks), [7; 16], 10)
    };
    let claim = Forge::new(1, PLENTY).claim(START, Some("sleepy-nonce"));
    assert_eq!(sleepy(Forge::WINDOW_MS).claim(&claim), Ok(ClaimOutcome::Granted));
    assert_eq!(sleepy(Forge::WINDOW_MS + 1).claim(&claim), Ok(ClaimOutcome::Stale));
    let store = sleepy(1_000);
    store.require_mark();
    store.allow_claims_until(START.plus(999));
    assert_eq!(store.claim(&claim), Err(StoreError::MarkLapsed));
    assert_eq!(store.nonces_held(), 0);
}

#[tokio::test]
async fn a_sweep_forgets_what_is_over_and_nothing_else() {
    let (store, clock) = store(1_000);
    let fast = Rate { per_sec: 10, burst: 5 };
    for number in 0..100 {
        let claim = Forge::new(number, fast).claim(START, Some("swept-nonce"));
        assert_eq!(store.claim(&claim), Ok(ClaimOutcome::Granted));
        let life_ms = if number < 50 { 1_000 } else { 600_000 };
        let (session, key) = session(number as u8, number as u8, clock.now(), life_ms);
        store.start_session(new(session, key)).await.unwrap();
    }
    let sweep_all = || (0..4).for_each(|_| store.sweep());
    sweep_all();
    let held =
        || (store.nonces_held(), store.rates.len(), store.sessions.len(), store.sessions.agents());
    assert_eq!(held(), (100, 100, 100, 100));
    clock.advance(Forge::NONCE_TTL_MS + 64 - 1_000);
    sweep_all();
    assert_eq!(held(), (100, 0, 50, 50));
    clock.advance(1_000);
    sweep_all();
    assert_eq!(held(), (0, 0, 50, 50));
    // An agent that was refused is remembered for as long as that counts.
    let forge = Forge::new(7, fast);
    let refused = |claim| matches!(store.claim(&claim), Ok(ClaimOutcome::RateLimited { .. }));
    clock.advance(120_000);
    while !refused(forge.claim(clock.now().wall, None)) {}
    clock.advance(30_000);
    sweep_all();
    assert_eq!(held(), (0, 1, 50, 50));
    clock.advance(600_000);
    sweep_all();
    assert_eq!(held(), (0, 0, 0, 0));
}

#[tokio::test]
async fn ended_sessions_leave_nothing_behind() {
    let (store, clock) = store(10);
    for number in 0..4 {
        let (session, key) = session(number, number / 2, clock.now(), 1_000);
        store.start_session(new(session.clone(), key)).await.unwrap();
        if number < 2 {
            assert_eq!(store.end_session(session.agent, &session.id).await, Ok(true));
        }
    }
    assert_eq!((store.sessions.len(), store.sessions.agents()), (2, 1));
    assert_eq!(store.end_sessions_of(AgentId::from_bytes([1; 16])).await.unwrap().len(), 2);
    assert_eq!((store.sessions.len(), store.sessions.agents()), (0, 0));
}

fn restore(bytes: &[u8], clock: &ManualClock) -> Result<MemoryStore, RestoreError> {
    MemoryStore::restore(bytes, Arc::new(clock.clone()), 1_000, Forge::AHEAD_MS)
}

/// The clock of a new process, which shows `wall` and another monotonic time.
fn clock_after(wall: WallMs) -> ManualClock {
    let clock = ManualClock::at(WallMs(0));
    clock.advance(123_456);
    clock.set_wall(wall);
    clock
}

#[tokio::test]
async fn a_snapshot_carries_sessions_nonces_and_the_floor() {
    let (store, clock) = store(1_000);
    let forge = Forge::new(1, PLENTY);
    assert_eq!(store.claim(&forge.claim(START, Some("kept-nonce"))), Ok(ClaimOutcome::Granted));
    store.set_replay_floor(START.minus(700));
    let (short, key) = session(1, 1, clock.now(), 60_000);
    store.start_session(new(short.clone(), key)).await.unwrap();
    let (long, key) = session(2, 1, clock.now(), 600_000);
    store.start_session(new(long.clone(), key.clone())).await.unwrap();
    clock.advance(10_000);
    let bytes = store.snapshot();

    // Down for 50 s: as much is taken off the sessions.
    let later = clock_after(clock.now().wall.plus(50_000));
    let restored = restore(&bytes, &later).unwrap();
    assert_eq!(restored.highest_floor(), Some(START.minus(700)));
    assert!(restored.session(&short.id).is_none(), "10 s and 50 s of its 60 s are over");
    let found = restored.session(&long.id).unwrap();
    assert_eq!(found.expires_at, later.now().mono.plus(540_000));
    assert_eq!(found.max_expires_at, later.now().mono.plus(1_140_000));
    assert_eq!((found.agent, found.epoch, found.secret_version), (long.agent, 1, 2));
    let signed = MacKey::of_session(&key).tag_of(b"words");
    assert!(found.key.accepts_body(b"words", &signed));
    assert_eq!(restored.end_sessions_of(long.agent).await, Ok(vec![long.id]));
    assert_eq!(restored.session(&long.id).map(|found| found.id), None);
}

#[test]
fn a_snapshot_keeps_nonces_for_what_they_had_left() {
    let (store, clock) = store(1_000);
    let forge = Forge::new(1, PLENTY);
    assert_eq!(store.claim(&forge.claim(START, Some("kept-nonce"))), Ok(ClaimOutcome::Granted));
    clock.advance(1_000);
    let bytes = store.snapshot();
    let left_ms = Forge::NONCE_TTL_MS - 1_000;
    // The wall clock jumps while the process is down: a nonce is kept all the same.
    for away_ms in [0, 100, 1_000_000] {
        let later = clock_after(clock.now().wall.plus(away_ms));
        let restored = restore(&bytes, &later).unwrap();
        let again = || restored.claim(&forge.claim(later.now().wall, Some("kept-nonce")));
        later.advance(left_ms - 1);
        assert_eq!(again(), Ok(ClaimOutcome::Replayed));
        later.advance(129);
        assert_eq!(again(), Ok(ClaimOutcome::Granted));
    }
}

#[tokio::test]
async fn a_clock_that_went_back_over_a_stop_raises_the_floor_and_takes_no_life() {
    let (store, clock) = store(1_000);
    let (one, key) = session(1, 1, clock.now(), 60_000);
    store.start_session(new(one.clone(), key)).await.unwrap();
    let ahead = Forge::new(1, PLENTY).claim(START.plus(Forge::AHEAD_MS), Some("ahead-nonce"));
    assert_eq!(store.claim(&ahead), Ok(ClaimOutcome::Granted));
    let bytes = store.snapshot();
    let later = clock_after(START.minus(600_000));
    let restored = restore(&bytes, &later).unwrap();
    let found = restored.session(&one.id).unwrap();
    assert_eq!(found.expires_at, later.now().mono.plus(60_000));
    // By the time the wall clock shows that timestamp again, its nonce is forgotten.
    later.advance(600_000);
    assert_eq!(restored.claim(&ahead), Ok(ClaimOutcome::Starting { retry_after_ms: 1_001 }));
    assert_eq!(restored.highest_floor(), Some(START.plus(Forge::AHEAD_MS + 500)));
    assert_eq!(restore(&bytes, &clock_after(START)).unwrap().highest_floor(), None);
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused() {
    let (store, clock) = store(1_000);
    let (one, key) = session(1, 1, clock.now(), 60_000);
    store.start_session(new(one, key)).await.unwrap();
    let forge = Forge::new(1, PLENTY);
    assert_eq!(store.claim(&forge.claim(START, Some("kept-nonce"))), Ok(ClaimOutcome::Granted));
    let whole = store.snapshot().to_vec();
    assert!(restore(&whole, &clock).is_ok());
    for length in 0..whole.len() {
        assert!(restore(&whole[..length], &clock).is_err(), "cut to {length}");
    }
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 1;
        let expected = match index {
            0..7 => RestoreError::NotASnapshot,
            7 => RestoreError::UnknownVersion(0),
            _ => RestoreError::Damaged,
        };
        assert_eq!(restore(&changed, &clock).unwrap_err(), expected, "byte {index}");
    }
    // Whole, with a count of sessions that are not there.
    let mut content = whole[..whole.len() - 32].to_vec();
    content[24] = 200;
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    content.extend_from_slice(sum.as_ref());
    assert!(restore(&content, &clock).is_err());
}

#[tokio::test]
async fn a_sealed_store_grants_nothing_and_a_snapshot_of_it_is_final() {
    let (store, clock) = store(1_000);
    let (one, key) = session(1, 1, clock.now(), 60_000);
    store.start_session(new(one.clone(), key)).await.unwrap();
    store.seal_for_stop();
    let forge = Forge::new(1, PLENTY);
    for nonce in [None, Some("late-nonce")] {
        assert_eq!(store.claim(&forge.claim(START, nonce)), Err(stopping()));
    }
    // What was let in before can still end its session, until the snapshot is taken.
    let (two, key) = session(2, 1, clock.now(), 60_000);
    store.start_session(new(two.clone(), key.clone())).await.unwrap();
    assert_eq!(store.end_session(two.agent, &two.id).await, Ok(true));
    let bytes = store.snapshot();
    assert_eq!(store.end_session(one.agent, &one.id).await, Err(stopping()));
    assert_eq!(store.end_sessions_of(one.agent).await, Err(stopping()));
    assert!(store.extend_session(one.agent, &one.id, MonoMs(u64::MAX)).await.is_err());
    assert_eq!(store.start_session(new(two.clone(), key)).await, Err(stopping()));
    assert!(store.session(&one.id).is_some());
    let restored = restore(&bytes, &clock).unwrap();
    assert!(restored.session(&one.id).is_some() && restored.session(&two.id).is_none());
}

#[test]
fn a_snapshot_misses_nothing_that_was_granted_while_it_was_taken() {
    for _ in 0..20 {
        let (store, clock) = store(1_000_000);
        let start = Barrier::new(5);
        let (granted, bytes) = thread::scope(|scope| {
            let claimants: Vec<_> = (0..4)
                .map(|agent| {
                    let (store, start) = (&store, &start);
                    scope.spawn(move || {
                        let forge = Forge::new(agent, PLENTY);
                        let claims =
                            (0..400).map(|n| forge.claim(START, Some(&format!("nonce-{n:06}"))));
                        let claims: Vec<_> = claims.collect();
                        start.wait();
                        let is_granted = |claim: &Claim| store.claim(claim).is_ok();
                        claims.into_iter().filter(is_granted).collect::<Vec<_>>()
                    })
                })
                .collect();
            start.wait();
            let bytes = store.snapshot();
            let granted: Vec<_> = claimants.into_iter().flat_map(|c| c.join().unwrap()).collect();
            (granted, bytes)
        });
        let restored =
            MemoryStore::restore(&bytes, Arc::new(clock), 1_000_000, Forge::AHEAD_MS).unwrap();
        assert_eq!(restored.nonces_held(), granted.len());
        for claim in granted {
            assert_eq!(restored.claim(&claim), Ok(ClaimOutcome::Replayed));
        }
    }
}

#[test]
fn nothing_printed_gives_a_key_away() {
    let (store, _) = store(10);
    let shown = format!("{store:?}");
    assert!(shown.starts_with("MemoryStore { nonces: NonceTable {"), "{shown}");
    assert!(!shown.contains("key"), "{shown}");
}

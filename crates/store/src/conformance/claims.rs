//! Nonces and rates.

use std::sync::Arc;

use edgeward_core::limit::gcra::Rate;
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::time::WallMs;

use super::{CROWD, Forge, TestTime, at_once};
use crate::shared::Claims;

const ROUNDS: u32 = 200;
/// More than any of these tests asks for.
const PLENTY: Rate = Rate { per_sec: 1_000_000, burst: 1_000_000 };

async fn claim(store: &impl Claims, claim: &Claim) -> ClaimOutcome {
    store.claim_nonce_and_rate(claim).await.expect("the store decides")
}

fn refused_by(outcome: ClaimOutcome, rate: Rate) -> u64 {
    let ClaimOutcome::RateLimited { retry_after_ms, rate: by } = outcome else {
        panic!("{outcome:?} instead of a refusal by {rate:?}");
    };
    assert_eq!(by, rate, "another rate refused");
    retry_after_ms
}

/// All of [`Claims`] but the floor and the end of room.
///
/// # Panics
/// When a promise is broken.
pub async fn claims<S: Claims + 'static>(store: Arc<S>, time: &impl TestTime) {
    a_nonce_counts_once_for_an_agent(&*store, time).await;
    a_replay_is_not_charged_and_a_refusal_by_rate_keeps_the_nonce(&*store, time).await;
    what_has_left_the_window_is_stale(&*store, time).await;
    all_rates_are_charged_or_none(&*store, time).await;
    without_a_nonce_time_and_rate_decide(&*store, time).await;
    of_many_equal_claims_one_is_granted(&store, time).await;
    many_at_once_get_what_the_rate_has(&store, time).await;
}

async fn a_nonce_counts_once_for_an_agent(store: &impl Claims, time: &impl TestTime) {
    let (a, b) = (Forge::new(1, PLENTY), Forge::new(2, PLENTY));
    let fresh = |forge: &Forge| forge.claim(time.now().wall, Some("once-or-never"));
    assert_eq!(claim(store, &fresh(&a)).await, ClaimOutcome::Granted);
    assert_eq!(claim(store, &fresh(&a)).await, ClaimOutcome::Replayed);
    assert_eq!(claim(store, &fresh(&b)).await, ClaimOutcome::Granted, "another agent's nonce");
    // Remembered for as long as it must be, whatever the timestamp that it comes with.
    time.pass(Forge::NONCE_TTL_MS - 500 - time.tolerance_ms()).await;
    assert_eq!(claim(store, &fresh(&a)).await, ClaimOutcome::Replayed);
    time.pass(1_000 + 2 * time.tolerance_ms()).await;
    assert_eq!(claim(store, &fresh(&a)).await, ClaimOutcome::Granted);
}

async fn a_replay_is_not_charged_and_a_refusal_by_rate_keeps_the_nonce(
    store: &impl Claims,
    time: &impl TestTime,
) {
    let rate = Rate { per_sec: 1, burst: 2 };
    let forge = Forge::new(3, rate);
    let fresh = |nonce: &str| forge.claim(time.now().wall, Some(nonce));
    assert_eq!(claim(store, &fresh("number-1")).await, ClaimOutcome::Granted);
    for _ in 0..5 {
        assert_eq!(claim(store, &fresh("number-1")).await, ClaimOutcome::Replayed);
    }
    assert_eq!(claim(store, &fresh("number-2")).await, ClaimOutcome::Granted);
    let retry_after_ms = refused_by(claim(store, &fresh("number-3")).await, rate);
    assert!((1..=1_000).contains(&retry_after_ms), "{retry_after_ms}");
    // Whoever keeps to the wait is let through, with the same nonce.
    time.pass(retry_after_ms).await;
    assert_eq!(claim(store, &fresh("number-3")).await, ClaimOutcome::Granted);
    // And whoever does not waits longer.
    let first = refused_by(claim(store, &fresh("number-4")).await, rate);
    let second = refused_by(claim(store, &fresh("number-4")).await, rate);
    assert!(second > first, "{first} then {second}");
}

async fn what_has_left_the_window_is_stale(store: &impl Claims, time: &impl TestTime) {
    let forge = Forge::new(4, Rate { per_sec: 1, burst: 2 });
    let late = forge.claim(time.now().wall, Some("late-nonce"));
    let used = forge.claim(time.now().wall, Some("used-nonce"));
    assert_eq!(claim(store, &used).await, ClaimOutcome::Granted);
    time.pass(Forge::WINDOW_MS + 50 + time.tolerance_ms()).await;
    // Neither told as a replay, nor charged, nor at the cost of the nonce.
    for _ in 0..5 {
        assert_eq!(claim(store, &used).await, ClaimOutcome::Stale);
        assert_eq!(claim(store, &late).await, ClaimOutcome::Stale);
    }
    let too_far = Forge::AHEAD_MS + 500 + 2 * time.tolerance_ms();
    let early = forge.claim(time.now().wall.plus(too_far), Some("late-nonce"));
    assert_eq!(claim(store, &early).await, ClaimOutcome::Stale);
    let fresh = forge.claim(time.now().wall, Some("late-nonce"));
    assert_eq!(claim(store, &fresh).await, ClaimOutcome::Granted);
    let just_ahead = (Forge::AHEAD_MS - 50).saturating_sub(time.tolerance_ms());
    let ahead = forge.claim(time.now().wall.plus(just_ahead), Some("ahead-nonce"));
    assert_eq!(claim(store, &ahead).await, ClaimOutcome::Granted);
}

async fn all_rates_are_charged_or_none(store: &impl Claims, time: &impl TestTime) {
    let own = Rate { per_sec: 1, burst: 4 };
    let route = Rate { per_sec: 1, burst: 1 };
    let forge = Forge::new(5, own);
    let on = |rate, nonce: &str| forge.claim_on(rate, time.now().wall, Some(nonce));
    assert_eq!(claim(store, &on(Some(route), "route-nonce-1")).await, ClaimOutcome::Granted);
    for _ in 0..5 {
        refused_by(claim(store, &on(Some(route), "route-nonce-2")).await, route);
    }
    // The agent's own rate was charged for the one that passed, and for no other.
    for nonce in ["free-nonce-1", "free-nonce-2", "free-nonce-3"] {
        assert_eq!(claim(store, &on(None, nonce)).await, ClaimOutcome::Granted, "{nonce}");
    }
    refused_by(claim(store, &on(None, "free-nonce-4")).await, own);

    // The other way round: what the agent's rate refuses is not charged to the route.
    let (own, route) = (Rate { per_sec: 10, burst: 1 }, Rate { per_sec: 1, burst: 1 });
    let forge = Forge::new(6, own);
    let on = |rate, nonce: &str| forge.claim_on(rate, time.now().wall, Some(nonce));
    assert_eq!(claim(store, &on(None, "free-nonce-1")).await, ClaimOutcome::Granted);
    let retry_after_ms = refused_by(claim(store, &on(Some(route), "route-nonce-1")).await, own);
    time.pass(retry_after_ms).await;
    assert_eq!(claim(store, &on(Some(route), "route-nonce-1")).await, ClaimOutcome::Granted);
}

async fn without_a_nonce_time_and_rate_decide(store: &impl Claims, time: &impl TestTime) {
    let rate = Rate { per_sec: 1, burst: 2 };
    let forge = Forge::new(7, rate);
    let same = forge.claim(time.now().wall, None);
    assert_eq!(claim(store, &same).await, ClaimOutcome::Granted);
    assert_eq!(claim(store, &same).await, ClaimOutcome::Granted);
    refused_by(claim(store, &same).await, rate);
    time.pass(Forge::WINDOW_MS + 50 + time.tolerance_ms()).await;
    assert_eq!(claim(store, &same).await, ClaimOutcome::Stale);
}

async fn of_many_equal_claims_one_is_granted<S: Claims + 'static>(
    store: &Arc<S>,
    time: &impl TestTime,
) {
    let forge = Forge::new(8, PLENTY);
    for round in 0..ROUNDS {
        let one = forge.claim(time.now().wall, Some(&format!("round-{round:04}")));
        let answers = at_once(|_| {
            let (store, one) = (Arc::clone(store), one.clone());
            async move { claim(&*store, &one).await }
        })
        .await;
        let granted = answers.iter().filter(|answer| **answer == ClaimOutcome::Granted).count();
        let replayed = answers.iter().filter(|answer| **answer == ClaimOutcome::Replayed).count();
        assert_eq!((granted, replayed), (1, CROWD as usize - 1), "round {round}");
    }
}

async fn many_at_once_get_what_the_rate_has<S: Claims + 'static>(
    store: &Arc<S>,
    time: &impl TestTime,
) {
    let forge = Forge::new(9, Rate { per_sec: 1, burst: 10 });
    let stamp = time.now().wall;
    let answers = at_once(|number| {
        let store = Arc::clone(store);
        let one = forge.claim(stamp, Some(&format!("number-{number:04}")));
        async move { claim(&*store, &one).await }
    })
    .await;
    let granted = answers.iter().filter(|answer| **answer == ClaimOutcome::Granted).count();
    assert_eq!(granted, 10);
}

/// A store that has this floor, somewhere within the window: what lies at or under it is stale.
///
/// # Panics
/// When a promise is broken.
pub async fn claims_above_a_floor(store: &impl Claims, floor: WallMs) {
    let forge = Forge::new(20, PLENTY);
    assert_eq!(store.replay_floor(forge.agent()), Some(floor));
    assert_eq!(store.highest_floor(), Some(floor));
    for nonce in [None, Some("floor-nonce")] {
        for stamp in [floor, floor.minus(1)] {
            assert_eq!(claim(store, &forge.claim(stamp, nonce)).await, ClaimOutcome::Stale);
        }
        let above = forge.claim(floor.plus(1), nonce);
        assert_eq!(claim(store, &above).await, ClaimOutcome::Granted);
    }
}

/// A fresh store with room for `room` nonces: it never forgets one to make room, and what finds none
/// is not charged.
///
/// # Panics
/// When a promise is broken.
pub async fn claims_when_full(store: &impl Claims, time: &impl TestTime, room: u32) {
    let forge = Forge::new(30, PLENTY);
    let fresh = |number: u32| forge.claim(time.now().wall, Some(&format!("number-{number:06}")));
    for number in 0..room {
        assert_eq!(claim(store, &fresh(number)).await, ClaimOutcome::Granted, "{number}");
    }
    let slow = Forge::new(31, Rate { per_sec: 1, burst: 1 });
    for _ in 0..3 {
        let one_more = slow.claim(time.now().wall, Some("one-more-nonce"));
        assert_eq!(claim(store, &one_more).await, ClaimOutcome::Full);
    }
    for number in 0..room {
        assert_eq!(claim(store, &fresh(number)).await, ClaimOutcome::Replayed, "{number}");
    }
    time.pass(Forge::NONCE_TTL_MS + 500).await;
    let one_more = slow.claim(time.now().wall, Some("one-more-nonce"));
    assert_eq!(claim(store, &one_more).await, ClaimOutcome::Granted);
}

//! Time: the window, the replay floor, and what passes while a body arrives.

use super::super::Floor;
use crate::limit::gcra::Rate;
use crate::nonce::Charge;
use crate::rejection::Rejection;
use crate::tests::forge::{Forge, NOW, Signer, agent_id, later};
use crate::time::{Now, WallMs};

fn at(timestamp: u64) -> Forge {
    Forge { timestamp, ..Forge::in_session() }
}

#[test]
fn the_window_is_closed_at_both_ends_and_no_wider() {
    let now = NOW.wall.0;
    for (timestamp, skew) in [
        (now - 60_001, -60_001),
        (now + 5_001, 5_001),
        (1_000_000_000_000, 1_000_000_000_000 - now.cast_signed()),
    ] {
        assert_eq!(at(timestamp).refusal(), Rejection::ClockOutside { skew_ms: skew });
    }
    for timestamp in [now - 60_000, now, now + 5_000] {
        assert_eq!(at(timestamp).verdict(), "ok", "{timestamp}");
    }
}

#[test]
fn a_slow_body_does_not_outlive_the_window() {
    let slow = |timestamp, ms| Forge { assessed_at: later(ms), ..at(timestamp) };
    assert_eq!(slow(NOW.wall.0, 60_000).verdict(), "ok");
    assert_eq!(slow(NOW.wall.0, 60_001).refusal(), Rejection::ClockOutside { skew_ms: -60_001 });
    // A stamp that was a little ahead lives as much longer.
    assert_eq!(slow(NOW.wall.0 + 5_000, 65_000).verdict(), "ok");
    assert_eq!(slow(NOW.wall.0 + 5_000, 65_001).verdict(), "clock_outside");
}

#[test]
fn a_slow_body_does_not_outlive_its_session() {
    let expiring = |ms| {
        Forge { assessed_at: later(ms), ..Forge::in_session() }
            .edit_session(|session| session.expires_at = later(1_000).mono)
    };
    assert_eq!(expiring(999).verdict(), "ok");
    assert_eq!(expiring(1_000).refusal(), Rejection::SessionExpired);
}

#[test]
fn a_session_ends_by_the_monotonic_clock() {
    // The wall clock went back an hour; the session's end did not move.
    let now = Now { wall: NOW.wall.minus(3_600_000), mono: later(600_000).mono };
    let forge = Forge { begun_at: now, assessed_at: now, settled_at: now, ..at(now.wall.0) };
    assert_eq!(forge.refusal(), Rejection::SessionExpired);
}

#[test]
fn behind_the_floor_nothing_passes_and_just_above_it_does() {
    let floored = |at: WallMs, timestamp| Forge {
        floor: Floor { at: Some(at) },
        timestamp,
        ..Forge::in_session()
    };
    let now = NOW.wall;
    assert_eq!(floored(now.plus(10), now.0).refusal(), Rejection::Starting { retry_after_ms: 11 });
    assert_eq!(floored(now, now.0).refusal(), Rejection::Starting { retry_after_ms: 1 });
    // A stamp above the floor does not help while the clock is behind it.
    assert_eq!(floored(now, now.0 + 1).refusal(), Rejection::Starting { retry_after_ms: 1 });
    let floor = now.minus(1);
    assert_eq!(floored(floor, now.0 - 2).refusal(), Rejection::UnderFloor);
    assert_eq!(floored(floor, now.0 - 1).refusal(), Rejection::UnderFloor);
    assert_eq!(floored(floor, now.0).verdict(), "ok");
}

#[test]
fn the_floor_holds_the_unstamped_back_too() {
    let floored = |forge: Forge, at| Forge { floor: Floor { at: Some(at) }, ..forge }.verdict();
    for forge in [
        Forge::legacy(),
        Forge { signer: Signer::Header, ..Forge::by_secret() }
            .edit_policy(|policy| policy.allow_header_secret = true),
    ] {
        assert_eq!(floored(forge.clone(), NOW.wall), "starting");
        assert_eq!(floored(forge, NOW.wall.minus(1)), "ok");
    }
}

#[test]
fn the_claim_is_timely_by_the_same_window_and_floor() {
    let now = NOW.wall;
    let commit = at(now.0).commit().unwrap();
    let fresh = commit.claim();
    assert_eq!(fresh.nonce().unwrap().nonce().as_str(), "nonce-0123456789");
    assert_eq!(fresh.nonce().unwrap().agent(), agent_id());
    assert_eq!(fresh.nonce_ttl_ms(), 66_000);
    assert!(fresh.is_timely(now.plus(60_000), None));
    assert!(!fresh.is_timely(now.plus(60_001), None));
    assert!(fresh.is_timely(now.minus(5_000), None));
    assert!(!fresh.is_timely(now.minus(5_001), None));
    assert!(fresh.is_timely(now, Some(now.minus(1))));
    assert!(!fresh.is_timely(now, Some(now)));
}

#[test]
fn claims_are_charged_to_the_agent_and_to_the_route() {
    let charges = |forge: Forge| forge.commit().unwrap().claim().charges().collect::<Vec<_>>();
    let own = Charge { route: None, rate: Rate { per_sec: 10, burst: 20 } };
    let by_route = Charge { route: Some(8), rate: Rate { per_sec: 1, burst: 2 } };
    assert_eq!(charges(Forge::in_session()), [own]);
    assert_eq!(charges(Forge::in_session().to("/rated/x")), [own, by_route]);
    let rate = Rate { per_sec: 77, burst: 78 };
    let favoured = Forge::in_session().edit_agent(|agent| agent.rate = Some(rate));
    assert_eq!(charges(favoured), [Charge { route: None, rate }]);
}

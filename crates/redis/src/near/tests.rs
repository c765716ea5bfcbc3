use edgeward_wire::{MacKey, SessionId, SessionKey};

use super::*;

const NOW: MonoMs = MonoMs(1_000_000);

fn session(number: u8) -> Session {
    Session {
        id: SessionId::from_random(&[number; 32]).hash(),
        agent: AgentId::from_bytes([number; 16]),
        epoch: 1,
        secret_version: 1,
        key: MacKey::of_session(&SessionKey::from_bytes([number; 32])),
        expires_at: NOW.plus(600_000),
        max_expires_at: NOW.plus(600_000),
    }
}

fn open(push: Push) -> Near {
    let near = Near::new();
    near.open(&Bucket::all().collect::<Vec<_>>(), push);
    near
}

fn miss(near: &Near, session: &Session, now: MonoMs) -> Ticket {
    match near.look(session.agent, &session.id, now) {
        Look::Miss(ticket) => ticket,
        Look::Fresh(_) | Look::Confirm(..) => panic!("found"),
    }
}

fn is_fresh(near: &Near, session: &Session, now: MonoMs) -> bool {
    matches!(near.look(session.agent, &session.id, now), Look::Fresh(_))
}

#[test]
fn what_was_read_is_found_and_what_has_changed_is_not() {
    let (near, one) = (open(Push::Tracking), session(1));
    let ticket = miss(&near, &one, NOW);
    near.keep(&ticket, &one);
    assert!(is_fresh(&near, &one, NOW));
    near.invalidate(one.agent, &one.id);
    miss(&near, &one, NOW);
}

#[test]
fn another_agent_finds_nothing() {
    let (near, one) = (open(Push::Tracking), session(1));
    near.keep(&miss(&near, &one, NOW), &one);
    let foreign = Session { agent: AgentId::from_bytes([2; 16]), ..one };
    miss(&near, &foreign, NOW);
}

#[test]
fn a_change_during_a_read_keeps_what_was_read_out() {
    let (near, one) = (open(Push::Tracking), session(1));
    let ticket = miss(&near, &one, NOW);
    near.invalidate(one.agent, &one.id);
    near.keep(&ticket, &one);
    let ticket = miss(&near, &one, NOW);
    near.keep(&ticket, &one);
    assert!(is_fresh(&near, &one, NOW));
}

#[test]
fn nothing_is_kept_or_found_while_changes_may_be_missed() {
    let (near, one) = (open(Push::Tracking), session(1));
    let all: Vec<Bucket> = Bucket::all().collect();
    near.keep(&miss(&near, &one, NOW), &one);
    near.close(&all);
    let during = miss(&near, &one, NOW);
    near.keep(&during, &one);
    near.open(&all, Push::Tracking);
    // Neither what was read before the gap, nor what is kept late by one who read within it.
    let after = miss(&near, &one, NOW);
    near.keep(&during, &one);
    miss(&near, &one, NOW);
    near.keep(&after, &one);
    assert!(is_fresh(&near, &one, NOW));
}

#[test]
fn what_was_forgotten_is_read_again() {
    let (near, one) = (open(Push::PubSub), session(1));
    near.keep(&miss(&near, &one, NOW), &one);
    let during = near.ticket(one.agent, &one.id, NOW);
    near.forget(Bucket::of(one.agent));
    near.keep(&during, &one);
    let ticket = miss(&near, &one, NOW);
    near.keep(&ticket, &one);
    assert!(is_fresh(&near, &one, NOW));
}

#[test]
fn one_confirms_a_copy_and_one_that_nobody_could_confirm_is_not_used() {
    for (push, confirm_ms, drop_ms) in [(Push::Tracking, 2_000, 3_000), (Push::None, 600, 1_000)] {
        let (near, one) = (open(push), session(1));
        near.keep(&miss(&near, &one, NOW), &one);
        assert!(is_fresh(&near, &one, NOW.plus(confirm_ms - 1)));
        let look = || near.look(one.agent, &one.id, NOW.plus(confirm_ms));
        let Look::Confirm(_, ticket) = look() else { panic!("nobody confirms it") };
        assert!(matches!(look(), Look::Fresh(_)), "somebody does already");
        Near::not_confirmed(&ticket);
        assert!(matches!(look(), Look::Confirm(..)), "somebody tries again");
        assert!(is_fresh(&near, &one, NOW.plus(drop_ms - 1)));
        miss(&near, &one, NOW.plus(drop_ms));
        // The copy counts from the moment before it was read again.
        near.keep(&ticket, &one);
        assert!(is_fresh(&near, &one, NOW.plus(confirm_ms * 2 - 1)));
    }
}

#[test]
fn a_copy_ends_with_its_session() {
    let near = open(Push::Tracking);
    let one = Session { expires_at: NOW.plus(100), ..session(1) };
    near.keep(&miss(&near, &one, NOW), &one);
    assert!(is_fresh(&near, &one, NOW.plus(99)));
    miss(&near, &one, NOW.plus(100));
}

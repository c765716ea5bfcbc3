//! As many keys are tried whoever calls.

use std::cell::RefCell;
use std::sync::Arc;

use super::*;
use crate::tests::forge::{NOW, agent, secret, secret_record};

const LIVE: u64 = 60_000;

fn with_secrets(seeds: &[(u8, u64)]) -> Agent {
    let record = |(at, (seed, life)): (usize, &(u8, u64))| {
        secret_record(u32::try_from(at).unwrap(), &secret(*seed), NOW.wall.plus(*life))
    };
    Agent { secrets: seeds.iter().enumerate().map(record).collect(), ..agent() }
}

/// The outcome, and the tag of some words by each key that was tried.
fn tries(agent: Option<&Agent>, right: &MacKey) -> (Result<u32, Rejection>, usize) {
    let tried = RefCell::new(0);
    let words = b"words";
    let given = right.tag_of(words);
    let dummy = MacKey::dummy(&[77; 32]);
    let outcome = find_version(agent, &dummy, NOW.wall, |key| {
        *tried.borrow_mut() += 1;
        key.accepts_body(words, &given)
    });
    (outcome, tried.into_inner())
}

#[test]
fn hits_and_misses_try_as_many_keys() {
    let of = |seed| MacKey::of_secret(&secret(seed));
    let wrong = Err(Rejection::WrongSignature);
    let cases: &[(Option<Agent>, MacKey, Result<u32, Rejection>)] = &[
        (None, of(1), Err(Rejection::UnknownAgent)),
        (Some(with_secrets(&[])), of(1), wrong.clone()),
        (Some(with_secrets(&[(1, LIVE)])), of(1), Ok(0)),
        (Some(with_secrets(&[(1, LIVE)])), of(2), wrong.clone()),
        (Some(with_secrets(&[(1, LIVE), (2, LIVE), (3, LIVE)])), of(1), Ok(0)),
        (Some(with_secrets(&[(1, LIVE), (2, LIVE), (3, LIVE)])), of(3), Ok(2)),
        (Some(with_secrets(&[(1, LIVE), (2, LIVE), (3, LIVE)])), of(4), wrong.clone()),
        (Some(with_secrets(&[(1, 0), (2, LIVE)])), of(1), wrong.clone()),
        (Some(with_secrets(&[(1, 0), (2, 0), (3, 0), (4, LIVE)])), of(4), Ok(3)),
        (Some(with_secrets(&[(1, LIVE); 5])), of(1), Ok(0)),
    ];
    for (at, (agent, right, expected)) in cases.iter().enumerate() {
        let (outcome, tried) = tries(agent.as_ref(), right);
        assert_eq!(outcome, *expected, "case {at}");
        assert_eq!(tried, VERSIONS, "case {at}");
    }
}

#[test]
fn the_dummy_key_opens_nothing() {
    let dummy = MacKey::dummy(&[77; 32]);
    assert_eq!(tries(None, &dummy).0, Err(Rejection::UnknownAgent));
    assert_eq!(tries(Some(&with_secrets(&[])), &dummy).0, Err(Rejection::WrongSignature));
    let agent = Agent { secrets: Arc::from([]), legacy: true, ..agent() };
    let signed = dummy.tag_of(b"body");
    let outcome = check_body(b"body", &signed, Some(&agent), &dummy, NOW.wall);
    assert_eq!(outcome, Err(Rejection::WrongSignature));
}

#[test]
fn a_secret_dies_at_its_end() {
    let of = |life| tries(Some(&with_secrets(&[(1, life)])), &MacKey::of_secret(&secret(1))).0;
    assert_eq!(of(1), Ok(0));
    assert_eq!(of(0), Err(Rejection::WrongSignature));
}

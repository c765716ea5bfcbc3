//! Sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use edgeward_core::record::Session;
use edgeward_core::time::MonoMs;
use edgeward_wire::signature::{BodyDigest, StringToSign};
use edgeward_wire::{MacKey, OwnerId, Scope, SessionId, SessionIdHash, SessionKey};

use super::forge::agent_id;
use super::{TestTime, at_once};
use crate::shared::{NewSession, Sessions};

const LIFE_MS: u64 = 2_000;

fn session(number: u8, agent: u64, time: &impl TestTime) -> NewSession {
    let key = SessionKey::from_bytes([number; 32]);
    let now = time.now().mono;
    let session = Session {
        id: SessionId::from_random(&[number; 32]).hash(),
        agent: agent_id(agent),
        epoch: 4,
        secret_version: 3,
        key: MacKey::of_session(&key),
        expires_at: now.plus(LIFE_MS),
        max_expires_at: now.plus(2 * LIFE_MS),
    };
    let owner = OwnerId::parse("owner").unwrap();
    let scopes = Arc::new([Scope::parse("read").unwrap(), Scope::parse("write").unwrap()]);
    NewSession { session, key, owner, scopes }
}

async fn start(store: &impl Sessions, number: u8, agent: u64, time: &impl TestTime) -> Session {
    let new = session(number, agent, time);
    store.start_session(new.clone()).await.unwrap();
    new.session
}

/// Two sessions are the same, their keys by what they sign.
fn assert_same(found: Option<Session>, expected: &Session, time: &impl TestTime) {
    let found = found.expect("the session is found");
    let to_sign = StringToSign {
        audience: "a",
        agent_id: expected.agent,
        session_id: "",
        timestamp: "",
        nonce: "",
        method: "GET",
        target: "/",
        content_type: "",
        body: BodyDigest::of(b""),
    };
    assert!(expected.key.accepts(&to_sign.bytes(), &found.key.sign(&to_sign)), "another key");
    let facts = |of: &Session| (of.id, of.agent, of.epoch, of.secret_version);
    assert_eq!(facts(&found), facts(expected));
    let ends = |of: &Session| [of.expires_at, of.max_expires_at];
    for (found, expected) in ends(&found).into_iter().zip(ends(expected)) {
        let apart = found.since(expected) + expected.since(found);
        assert!(apart <= time.tolerance_ms(), "{found:?} for {expected:?}");
    }
}

async fn find(store: &impl Sessions, one: &Session) -> Option<Session> {
    store.find_session(one.agent, &one.id).await.unwrap()
}

async fn is_found(store: &impl Sessions, one: &Session) -> bool {
    find(store, one).await.is_some()
}

async fn extend(store: &impl Sessions, one: &Session, until: MonoMs) -> Option<Session> {
    store.extend_session(one.agent, &one.id, until).await.unwrap()
}

async fn end(store: &impl Sessions, one: &Session) -> bool {
    store.end_session(one.agent, &one.id).await.unwrap()
}

/// All of [`Sessions`].
///
/// # Panics
/// When a promise is broken.
pub async fn sessions<S: Sessions + 'static>(store: Arc<S>, time: &impl TestTime) {
    a_session_is_found_until_it_expires(&*store, time).await;
    an_extension_goes_neither_back_nor_past_the_maximum(&*store, time).await;
    an_ended_session_is_gone(&*store, time).await;
    all_sessions_of_an_agent_end_together(&*store, time).await;
    of_many_ends_one_ended_it(&store, time).await;
}

async fn a_session_is_found_until_it_expires(store: &impl Sessions, time: &impl TestTime) {
    let one = start(store, 1, 1, time).await;
    assert_same(find(store, &one).await, &one, time);
    let unknown = Session { id: SessionIdHash::from_bytes([0; 32]), ..one.clone() };
    assert!(!is_found(store, &unknown).await);
    time.pass(LIFE_MS - 100 - time.tolerance_ms()).await;
    assert!(is_found(store, &one).await);
    time.pass(100 + 2 * time.tolerance_ms()).await;
    assert!(!is_found(store, &one).await, "it expires at expires_at, not after it");
    assert!(extend(store, &one, one.max_expires_at).await.is_none());
    assert!(!end(store, &one).await);
}

async fn an_extension_goes_neither_back_nor_past_the_maximum(
    store: &impl Sessions,
    time: &impl TestTime,
) {
    let mut one = start(store, 2, 1, time).await;
    let (begin, most) = (one.expires_at, one.max_expires_at);
    // (asked for, what stands afterwards)
    let cases = [
        (begin.plus(100), begin.plus(100)),
        (begin, begin.plus(100)),
        (most.plus(1), most),
        (begin, most),
    ];
    for (until, stands) in cases {
        one.expires_at = stands;
        assert_same(extend(store, &one, until).await, &one, time);
        assert_same(find(store, &one).await, &one, time);
    }
    time.pass(LIFE_MS).await;
    assert!(is_found(store, &one).await, "extended");
    let unknown = Session { id: SessionIdHash::from_bytes([0; 32]), ..one.clone() };
    assert!(extend(store, &unknown, most).await.is_none());
}

async fn an_ended_session_is_gone(store: &impl Sessions, time: &impl TestTime) {
    let (one, other) = (start(store, 3, 1, time).await, start(store, 4, 1, time).await);
    assert!(end(store, &one).await);
    assert!(!is_found(store, &one).await);
    assert!(!end(store, &one).await, "there was none any more");
    assert!(extend(store, &one, one.max_expires_at).await.is_none());
    assert!(!is_found(store, &one).await, "an extension does not bring it back");
    assert!(is_found(store, &other).await);
    // Another agent neither extends nor ends it.
    let foreign = Session { agent: agent_id(2), ..other.clone() };
    assert!(extend(store, &foreign, other.max_expires_at).await.is_none());
    assert!(!end(store, &foreign).await);
    assert_same(find(store, &other).await, &other, time);
    assert!(end(store, &other).await);
}

async fn all_sessions_of_an_agent_end_together(store: &impl Sessions, time: &impl TestTime) {
    let (agent, other) = (50, 51);
    let expired = start(store, 10, agent, time).await;
    time.pass(LIFE_MS + time.tolerance_ms()).await;
    let mut live = Vec::new();
    for number in 11..15 {
        live.push(start(store, number, agent, time).await);
    }
    let ended = start(store, 15, agent, time).await;
    assert!(end(store, &ended).await);
    let kept = start(store, 16, other, time).await;
    let all = store.end_sessions_of(agent_id(agent)).await.unwrap();
    assert!(!all.contains(&expired.id) && !all.contains(&ended.id));
    let expected: BTreeSet<_> = live.iter().map(|one| one.id).collect();
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), expected);
    for one in &live {
        assert!(!is_found(store, one).await);
    }
    assert!(is_found(store, &kept).await, "another agent's");
    assert!(store.end_sessions_of(agent_id(agent)).await.unwrap().is_empty());
    // A new one lives: only what was there has ended.
    let new = start(store, 17, agent, time).await;
    assert!(is_found(store, &new).await);
}

async fn of_many_ends_one_ended_it<S: Sessions + 'static>(store: &Arc<S>, time: &impl TestTime) {
    let one = start(&**store, 20, 60, time).await;
    let answers = at_once(|_| {
        let (store, one) = (Arc::clone(store), one.clone());
        async move { end(&*store, &one).await }
    })
    .await;
    assert_eq!(answers.iter().filter(|ended| **ended).count(), 1);
}

//! Sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use edgeward_core::record::Session;
use edgeward_wire::signature::{BodyDigest, StringToSign};
use edgeward_wire::{MacKey, SessionId, SessionIdHash, SessionKey};

use super::forge::agent_id;
use super::{TestTime, at_once};
use crate::shared::Sessions;

const LIFE_MS: u64 = 2_000;

fn session(number: u8, agent: u64, time: &impl TestTime) -> (Session, SessionKey) {
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
    (session, key)
}

async fn start(store: &impl Sessions, number: u8, agent: u64, time: &impl TestTime) -> Session {
    let (session, key) = session(number, agent, time);
    store.start_session(session.clone(), key).await.unwrap();
    session
}

/// Two sessions are the same, their keys by what they sign.
fn assert_same(found: Option<Session>, expected: &Session) {
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
    let facts = |of: &Session| {
        (of.id, of.agent, of.epoch, of.secret_version, of.expires_at, of.max_expires_at)
    };
    assert_eq!(facts(&found), facts(expected));
}

async fn is_found(store: &impl Sessions, id: &SessionIdHash) -> bool {
    store.find_session(id).await.unwrap().is_some()
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
    assert_same(store.find_session(&one.id).await.unwrap(), &one);
    assert!(!is_found(store, &SessionIdHash::from_bytes([0; 32])).await);
    time.pass(LIFE_MS - 100).await;
    assert!(is_found(store, &one.id).await);
    time.pass(100).await;
    assert!(!is_found(store, &one.id).await, "it expires at expires_at, not after it");
    assert!(store.extend_session(&one.id, one.max_expires_at).await.unwrap().is_none());
    assert!(!store.end_session(&one.id).await.unwrap());
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
        assert_same(store.extend_session(&one.id, until).await.unwrap(), &one);
        assert_same(store.find_session(&one.id).await.unwrap(), &one);
    }
    time.pass(LIFE_MS).await;
    assert!(is_found(store, &one.id).await, "extended");
    let unknown = SessionIdHash::from_bytes([0; 32]);
    assert!(store.extend_session(&unknown, most).await.unwrap().is_none());
}

async fn an_ended_session_is_gone(store: &impl Sessions, time: &impl TestTime) {
    let (one, other) = (start(store, 3, 1, time).await, start(store, 4, 1, time).await);
    assert!(store.end_session(&one.id).await.unwrap());
    assert!(!is_found(store, &one.id).await);
    assert!(!store.end_session(&one.id).await.unwrap(), "there was none any more");
    assert!(store.extend_session(&one.id, one.max_expires_at).await.unwrap().is_none());
    assert!(!is_found(store, &one.id).await, "an extension does not bring it back");
    assert!(is_found(store, &other.id).await);
    assert!(store.end_session(&other.id).await.unwrap());
}

async fn all_sessions_of_an_agent_end_together(store: &impl Sessions, time: &impl TestTime) {
    let (agent, other) = (50, 51);
    let expired = start(store, 10, agent, time).await;
    time.pass(LIFE_MS).await;
    let mut expected = BTreeSet::new();
    for number in 11..15 {
        expected.insert(start(store, number, agent, time).await.id);
    }
    let ended = start(store, 15, agent, time).await;
    assert!(store.end_session(&ended.id).await.unwrap());
    let kept = start(store, 16, other, time).await;
    let all = store.end_sessions_of(agent_id(agent)).await.unwrap();
    assert!(!all.contains(&expired.id) && !all.contains(&ended.id));
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), expected);
    for id in &expected {
        assert!(!is_found(store, id).await);
    }
    assert!(is_found(store, &kept.id).await, "another agent's");
    assert!(store.end_sessions_of(agent_id(agent)).await.unwrap().is_empty());
    // A new one lives: only what was there has ended.
    let new = start(store, 17, agent, time).await;
    assert!(is_found(store, &new.id).await);
}

async fn of_many_ends_one_ended_it<S: Sessions + 'static>(store: &Arc<S>, time: &impl TestTime) {
    let one = start(&**store, 20, 60, time).await;
    let answers = at_once(|_| {
        let (store, id) = (Arc::clone(store), one.id);
        async move { store.end_session(&id).await.unwrap() }
    })
    .await;
    assert_eq!(answers.iter().filter(|ended| **ended).count(), 1);
}

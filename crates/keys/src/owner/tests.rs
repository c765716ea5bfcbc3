mod issuer;

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use edgeward_core::time::{MonoMs, WallMs};
use edgeward_wire::Scope;
use serde_json::json;

use self::issuer::{FakeUrl, Key, claims, set_of};
use super::*;
use crate::testing::NOW;

/// The tests' moment and `ms` more, by both clocks.
fn after(ms: u64) -> Now {
    Now { wall: NOW.wall.plus(ms), mono: NOW.mono.plus(ms) }
}

fn rules() -> OwnerRules {
    OwnerRules { issuer: Some("https://issuer.example".to_owned()), ..OwnerRules::default() }
}

/// A token that is good for two days from the tests' moment.
fn token(key: &Key) -> String {
    key.sign(&claims(NOW.wall))
}

fn kids(keys: &OwnerKeys) -> HashSet<&str> {
    match keys {
        OwnerKeys::Set(keys) => keys.keys().map(String::as_str).collect(),
        OwnerKeys::Shared(_) => HashSet::new(),
    }
}

fn url(fake: &Arc<FakeUrl>) -> Arc<OwnerKeySource> {
    Arc::new(OwnerKeySource::url(Arc::clone(fake) as Arc<dyn FetchJwks>))
}

/// A deadline for what would otherwise wait for ever.
async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("done within a minute")
}

/// Waits for the next fetch to end.
fn end_of_fetch(source: &OwnerKeySource) -> impl Future<Output = ()> + use<> {
    let Kind::Url(source) = &source.0 else { panic!("of a URL") };
    let mut ended = source.ended();
    async move { soon(ended.changed()).await.unwrap() }
}

#[tokio::test]
async fn each_kind_of_key_verifies_its_owner() {
    let keys = [Key::ed25519("o"), Key::p256("p"), Key::rsa("r")];
    let source = url(&FakeUrl::of(&set_of(&keys)));
    for key in &keys {
        let owner = soon(source.verify_owner(&token(key), &rules(), NOW)).await.unwrap();
        assert_eq!(owner.id().as_str(), "owner-1");
    }
    // The name of one and the signature of another.
    let swapped = token(&Key::ed25519("o"));
    let fault = soon(source.verify_owner(&swapped, &rules(), NOW)).await.unwrap_err();
    assert_eq!(fault, Rejection::OwnerTokenInvalid(JwtFault::Signature));
}

#[tokio::test]
async fn a_shared_secret_needs_no_kid_and_no_short_one_is_taken() {
    let secret = || Zeroizing::new(b"planted-shared-secret-0123456789".to_vec());
    let source = OwnerKeySource::shared(secret()).unwrap();
    let key = Key::shared(&secret());
    let owner = soon(source.verify_owner(&token(&key), &rules(), NOW)).await.unwrap();
    assert_eq!(owner.id().as_str(), "owner-1");
    let other = Key::shared(b"another-shared-secret-0123456789");
    let fault = soon(source.verify_owner(&token(&other), &rules(), NOW)).await.unwrap_err();
    assert_eq!(fault, Rejection::OwnerTokenInvalid(JwtFault::Signature));
    let short = OwnerKeySource::shared(Zeroizing::new(secret()[..31].to_vec())).unwrap_err();
    assert_eq!(short, OwnerKeysFault::ShortSecret);
    assert_eq!(format!("{source:?}"), "OwnerKeySource(shared secret)");
    assert!(!format!("{:?}", soon(source.keys(NOW)).await.unwrap()).contains("planted"));
}

#[tokio::test]
async fn faults_of_the_token_the_owner_and_the_keys_are_three_answers() {
    let key = Key::ed25519("o");
    let fake = FakeUrl::of(&set_of(std::slice::from_ref(&key)));
    let source = url(&fake);
    let rules = OwnerRules { roles: vec!["admin".to_owned()], ..rules() };
    let fault = soon(source.verify_owner(&token(&key), &rules, NOW)).await.unwrap_err();
    assert!(matches!(fault, Rejection::OwnerNotAllowed(_)), "{fault:?}");
    let late = Now { wall: WallMs(NOW.wall.0 * 2), ..NOW };
    let fault = soon(source.verify_owner(&token(&key), &rules, late)).await.unwrap_err();
    assert_eq!(fault, Rejection::OwnerTokenInvalid(JwtFault::Expired));
    let fault = soon(source.verify_owner("no token", &rules, NOW)).await.unwrap_err();
    assert_eq!(fault, Rejection::OwnerTokenInvalid(JwtFault::Form));
    let down = FakeUrl::of(b"");
    down.answer(Err("refused".to_owned()));
    let fault = url(&down).verify_owner(&token(&key), &rules, NOW).await.unwrap_err();
    assert_eq!(fault, Rejection::Unavailable(Dependency::OwnerKeys));
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn an_unknown_kid_is_looked_for_once_in_30_seconds() {
    let (old, new, stranger) = (Key::ed25519("old"), Key::p256("new"), Key::ed25519("stranger"));
    let fake = FakeUrl::of(&set_of(std::slice::from_ref(&old)));
    let source = url(&fake);
    let verify = |key: &Key, at| {
        let (source, token) = (Arc::clone(&source), token(key));
        async move { soon(source.verify_owner(&token, &rules(), after(at))).await }
    };
    let unknown = Rejection::OwnerTokenInvalid(JwtFault::UnknownKey);
    verify(&old, 0).await.unwrap();
    assert_eq!(fake.calls(), 1);
    // The first fetch was just now.
    assert_eq!(verify(&stranger, REFETCH_MS - 1).await.unwrap_err(), unknown);
    assert_eq!(fake.calls(), 1);
    fake.answer(Ok(set_of(&[old.clone(), new.clone()])));
    verify(&new, REFETCH_MS).await.unwrap();
    assert_eq!(fake.calls(), 2);
    for at in [0, 1, REFETCH_MS - 1] {
        assert_eq!(verify(&stranger, REFETCH_MS + at).await.unwrap_err(), unknown);
    }
    assert_eq!(fake.calls(), 2);
    assert_eq!(verify(&stranger, 2 * REFETCH_MS).await.unwrap_err(), unknown);
    assert_eq!(fake.calls(), 3);
}

#[tokio::test]
async fn while_the_issuer_is_down_an_unknown_kid_is_neither_yes_nor_no() {
    let (known, stranger) = (Key::ed25519("known"), Key::ed25519("stranger"));
    let fake = FakeUrl::of(&set_of(std::slice::from_ref(&known)));
    let source = url(&fake);
    soon(source.keys(NOW)).await.unwrap();
    for answer in [Err("down".to_owned()), Ok(b"<html>".to_vec())] {
        fake.answer(answer);
        let at = after(REFETCH_MS * fake.calls() as u64);
        for again in [at, Now { mono: at.mono.plus(1), ..at }] {
            let fault =
                soon(source.verify_owner(&token(&stranger), &rules(), again)).await.unwrap_err();
            assert_eq!(fault, Rejection::Unavailable(Dependency::OwnerKeys));
            soon(source.verify_owner(&token(&known), &rules(), again)).await.unwrap();
        }
    }
    assert_eq!(fake.calls(), 3);
}

#[tokio::test]
async fn a_refresh_keeps_nobody_waiting() {
    let (old, new) = (Key::ed25519("old"), Key::ed25519("new"));
    let fake = FakeUrl::of(&set_of(std::slice::from_ref(&old)));
    let source = url(&fake);
    soon(source.keys(NOW)).await.unwrap();
    soon(source.keys(after(REFRESH_MS - 1))).await.unwrap();
    assert_eq!((fake.calls(), source.age_ms(after(REFRESH_MS - 1))), (1, Some(REFRESH_MS - 1)));

    fake.answer(Ok(set_of(std::slice::from_ref(&new))));
    fake.close();
    let ended = end_of_fetch(&source);
    let keys = soon(source.keys(after(REFRESH_MS))).await.unwrap();
    assert_eq!(kids(&keys), HashSet::from(["old"]), "as known, the fetch is still under way");
    fake.open();
    ended.await;
    let keys = soon(source.keys(after(REFRESH_MS + 1))).await.unwrap();
    assert_eq!(kids(&keys), HashSet::from(["new"]));
    assert_eq!((fake.calls(), source.age_ms(after(REFRESH_MS + 1))), (2, Some(1)));
}

#[tokio::test]
async fn a_stale_set_serves_for_a_day_and_then_no_longer() {
    let key = Key::ed25519("k");
    let fake = FakeUrl::of(&set_of(std::slice::from_ref(&key)));
    let source = url(&fake);
    soon(source.keys(NOW)).await.unwrap();
    fake.answer(Err("down".to_owned()));
    for at in [REFRESH_MS, REFRESH_MS * 2, STALE_LIMIT_MS / 2, STALE_LIMIT_MS - 1] {
        let ended = end_of_fetch(&source);
        soon(source.verify_owner(&token(&key), &rules(), after(at))).await.unwrap();
        ended.await;
    }
    assert_eq!(fake.calls(), 5);
    // Just looked a moment ago: refused without another fetch.
    let refused = soon(source.keys(after(STALE_LIMIT_MS))).await;
    assert_eq!((refused.unwrap_err(), fake.calls()), (OwnerKeysUnavailable, 5));
    let later = after(STALE_LIMIT_MS + REFETCH_MS);
    let fault = soon(source.verify_owner(&token(&key), &rules(), later)).await.unwrap_err();
    assert_eq!((fault, fake.calls()), (Rejection::Unavailable(Dependency::OwnerKeys), 6));
    fake.answer(Ok(set_of(std::slice::from_ref(&key))));
    let back = after(STALE_LIMIT_MS + 2 * REFETCH_MS);
    soon(source.verify_owner(&token(&key), &rules(), back)).await.unwrap();
}

#[tokio::test]
async fn callers_at_once_share_one_fetch() {
    let fake = FakeUrl::of(&set_of(&[Key::ed25519("k")]));
    fake.close();
    let source = url(&fake);
    let callers: Vec<_> = (0..16)
        .map(|caller| {
            let source = Arc::clone(&source);
            // Of moments far apart too: one in flight is one in flight.
            let now = after(caller * REFETCH_MS);
            tokio::spawn(async move {
                if caller % 2 == 0 {
                    soon(source.keys(now)).await
                } else {
                    soon(source.keys_for_unknown_kid(now)).await
                }
            })
        })
        .collect();
    soon(fake.entered()).await;
    // On this one thread every caller has run until it had to wait.
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    assert!(callers.iter().all(|caller| !caller.is_finished()));
    fake.open();
    for caller in callers {
        assert_eq!(kids(&soon(caller).await.unwrap().unwrap()), HashSet::from(["k"]));
    }
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn a_caller_that_hangs_up_breaks_no_fetch_off() {
    let fake = FakeUrl::of(&set_of(&[Key::ed25519("k")]));
    fake.close();
    let source = url(&fake);
    let first = tokio::spawn({
        let source = Arc::clone(&source);
        async move { soon(source.keys(NOW)).await }
    });
    soon(fake.entered()).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fake.open();
    assert!(soon(source.keys(after(1))).await.is_ok());
    assert_eq!(fake.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_ends_and_the_next_is_tried() {
    let fake = FakeUrl::of(&set_of(&[Key::ed25519("k")]));
    fake.close();
    let source = url(&fake);
    assert!(soon(source.keys(NOW)).await.is_err());
    fake.open();
    assert!(soon(source.keys(after(REFETCH_MS - 1))).await.is_err(), "not before 30 s");
    assert!(soon(source.keys(after(REFETCH_MS))).await.is_ok());
}

struct Panicking;

#[async_trait]
impl FetchJwks for Panicking {
    async fn fetch(&self) -> Result<Vec<u8>, String> {
        panic!("a fault in the fetcher")
    }
}

#[tokio::test]
async fn a_fetcher_that_panics_leaves_nobody_waiting() {
    let source = OwnerKeySource::url(Arc::new(Panicking));
    for at in [0, REFETCH_MS] {
        assert_eq!(soon(source.keys(after(at))).await.unwrap_err(), OwnerKeysUnavailable);
    }
}

/// Replaces a file as careful writers do, so that it is another one.
fn replace(path: &std::path::Path, content: &[u8]) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, content).unwrap();
    std::fs::rename(draft, path).unwrap();
}

#[tokio::test]
async fn a_file_is_read_again_and_the_last_good_one_stays() {
    let (old, new) = (Key::ed25519("old"), Key::p256("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("owners.json");
    replace(&path, &set_of(std::slice::from_ref(&old)));
    let source = OwnerKeySource::file(path.clone()).await.unwrap();
    let verify = |key: &Key| {
        let (source, token) = (&source, token(key));
        async move { soon(source.verify_owner(&token, &rules(), NOW)).await }
    };
    let unknown = Rejection::OwnerTokenInvalid(JwtFault::UnknownKey);
    let unavailable = Rejection::Unavailable(Dependency::OwnerKeys);
    verify(&old).await.unwrap();
    assert_eq!(verify(&new).await.unwrap_err(), unknown);

    replace(&path, b"{\"keys\": [");
    verify(&old).await.unwrap();
    assert_eq!(verify(&new).await.unwrap_err(), unavailable, "the broken one may name it");
    std::fs::remove_file(&path).unwrap();
    verify(&old).await.unwrap();
    assert_eq!(verify(&new).await.unwrap_err(), unavailable);

    replace(&path, &set_of(std::slice::from_ref(&new)));
    verify(&new).await.unwrap();
    assert_eq!(verify(&old).await.unwrap_err(), unknown, "withdrawn");
    // The last key can be withdrawn too.
    replace(&path, b"{\"keys\":[]}");
    assert_eq!(verify(&new).await.unwrap_err(), unknown);
}

#[tokio::test]
async fn the_time_of_change_alone_has_a_file_read_again() {
    let (one, two) = (Key::ed25519("1"), Key::ed25519("2"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("owners.json");
    let write = |key: &Key, at: u64| {
        std::fs::write(&path, set_of(std::slice::from_ref(key))).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(at)).unwrap();
    };
    write(&one, 1_000);
    let source = OwnerKeySource::file(path.clone()).await.unwrap();
    write(&two, 1_000);
    assert_eq!(kids(&soon(source.keys(NOW)).await.unwrap()), HashSet::from(["1"]));
    write(&two, 1_001);
    assert_eq!(kids(&soon(source.keys(NOW)).await.unwrap()), HashSet::from(["2"]));
}

#[tokio::test]
async fn a_file_that_verifies_nobody_is_refused_to_begin_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("owners.json");
    let open = || OwnerKeySource::file(path.clone());
    assert!(matches!(open().await, Err(OwnerKeysFault::File { .. })));
    replace(&path, b"{\"keys\":[]}");
    assert!(matches!(open().await, Err(OwnerKeysFault::NoKey { .. })));
    replace(&path, json!({"keys": [{"kty": "oct", "k": "planted"}]}).to_string().as_bytes());
    let fault = open().await.unwrap_err();
    assert!(matches!(fault, OwnerKeysFault::Set { fault: JwksFault::SharedSecret, .. }));
    assert!(!fault.to_string().contains("planted"));
    let mut large = set_of(&[Key::ed25519("k")]);
    large.resize(crate::jwks::MAX_SET_BYTES + 1, b' ');
    replace(&path, &large);
    assert!(matches!(open().await, Err(OwnerKeysFault::Set { fault: JwksFault::TooLarge, .. })));
}

#[tokio::test]
async fn what_an_owner_may_grant_comes_from_token_and_rules() {
    let key = Key::ed25519("k");
    let source = url(&FakeUrl::of(&set_of(std::slice::from_ref(&key))));
    let scope = |text: &str| Scope::parse(text).unwrap();
    let rules = OwnerRules { scopes: vec![scope("llm:chat")], ..rules() };
    let owner = soon(source.verify_owner(&token(&key), &rules, after(0))).await.unwrap();
    assert!(owner.may_grant(&[scope("llm:chat")]) && !owner.may_grant(&[scope("admin")]));
    assert_eq!(after(0).mono, MonoMs(1_000));
}

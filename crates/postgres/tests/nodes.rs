//! Who may be up beside whom.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::sync::Arc;

use edgeward_store::StoreError;
use edgeward_store::fleet::{Around, Joined, NodeRow, Nodes as _, Other};
use support::{Database, node_row};
use tokio::sync::Barrier;

/// A node that remembers nonces in this store.
fn node(name: &str, store: Option<&str>) -> NodeRow {
    let incarnation = std::array::from_fn(|at| name.as_bytes().get(at).copied().unwrap_or(0));
    NodeRow { store: store.map(str::to_owned), incarnation, ..node_row(name) }
}

/// As if the node had not been heard of for this long.
fn silent(database: &Database, name: &str, seconds: u32) {
    database.sql(&format!(
        "UPDATE cogo.nodes SET beat_at = clock_timestamp() - interval '{seconds} seconds'
         WHERE name = '{name}'"
    ));
}

/// How long a node counts as up before another, in seconds: one that shares goes on without the
/// database for 300 s, and none that remembers by itself may start meanwhile.
fn lasts(node: &NodeRow, before: &NodeRow) -> u32 {
    if node.store.is_some() && before.store.is_none() { 310 } else { 10 }
}

#[tokio::test]
async fn nodes_that_remember_apart_are_never_up_together() {
    for (first, second) in [
        (Some("one"), None),
        (None, Some("one")),
        (None, None),
        (Some("one"), Some("two")),
        (Some("one"), Some("One")),
        (Some("one"), Some("")),
    ] {
        let database = Database::fresh().await;
        let (a, b) = (node("a", first), node("b", second));
        let (at_a, at_b) = (database.open_as(a.clone()).await, database.open_as(b.clone()).await);
        assert!(matches!(at_a.join(&a).await, Ok(Joined::Yes { .. })));
        let answer = at_b.join(&b).await.unwrap();
        let case = format!("{first:?} and {second:?}: {answer:?}");
        let Joined::Apart(other) = answer else { panic!("{case}") };
        let Other { name, store, seen_ms_ago, gone_in_ms } = other;
        assert!(name == "a" && store.as_deref() == first, "{case}");
        assert_eq!(seen_ms_ago + gone_in_ms, 1_000 * u64::from(lasts(&a, &b)), "{case}");
        assert_eq!(at_b.beat().await, Err(StoreError::MarkLapsed), "{case}");
        silent(&database, "a", lasts(&a, &b) - 1);
        assert!(matches!(at_b.join(&b).await, Ok(Joined::Apart(_))), "{case}");
        at_a.beat().await.unwrap();
        // It counts as gone, and finds that another has taken its place.
        silent(&database, "a", lasts(&a, &b) + 1);
        assert!(matches!(at_b.join(&b).await, Ok(Joined::Yes { .. })), "{case}");
        assert_eq!(at_a.beat().await, Err(StoreError::MarkLapsed), "{case}");
        assert!(matches!(at_a.join(&a).await, Ok(Joined::Apart(_))), "{case}");
        // One that leaves in order is gone at once.
        at_b.leave().await.unwrap();
        assert!(matches!(at_a.join(&a).await, Ok(Joined::Yes { .. })), "{case}");
    }
}

#[tokio::test]
async fn nodes_that_share_one_store_are_up_together() {
    let database = Database::fresh().await;
    let (a, b) = (node("a", Some("one")), node("b", Some("one")));
    let (at_a, at_b) = (database.open_as(a.clone()).await, database.open_as(b.clone()).await);
    for (at, me) in [(&at_a, &a), (&at_b, &b), (&at_a, &a)] {
        assert!(matches!(at.join(me).await, Ok(Joined::Yes { .. })));
    }
    at_b.beat().await.unwrap();
    at_a.beat().await.unwrap();
}

#[tokio::test]
async fn whoever_looks_around_sees_the_clock_and_who_remembers_by_itself() {
    let database = Database::fresh().await;
    let me = database.open("me").await;
    let look = async || me.look_around().await.unwrap();
    assert_eq!(look().await.alone, None);
    let shares = node("a", Some("one"));
    database.open_as(shares.clone()).await.join(&shares).await.unwrap();
    assert_eq!(look().await.alone, None, "which store is its own is not known by then");
    database.sql("DELETE FROM cogo.nodes");
    for name in ["me", "b"] {
        let alone = node(name, None);
        let at = database.open_as(alone.clone()).await;
        at.join(&alone).await.unwrap();
        let Around { now, alone } = look().await;
        assert!(database_ms(&database).abs_diff(now.0) < 60_000, "{now:?}");
        let found = alone.map(|other| (other.name, other.store));
        let expected = (name != "me").then(|| (name.to_owned(), None));
        assert_eq!(found, expected, "itself is none of the others");
        silent(&database, name, 11);
        assert_eq!(look().await.alone, None);
        at.leave().await.unwrap();
    }
    let left = database.sql("SELECT count(*) FROM cogo.nodes");
    assert_eq!(left, "0", "looking takes no place");
}

fn database_ms(database: &Database) -> u64 {
    let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    database.sql(clock).parse().unwrap()
}

#[tokio::test]
async fn a_silent_node_that_shares_comes_back() {
    let database = Database::fresh().await;
    let (a, b) = (node("a", Some("one")), node("b", Some("one")));
    let (at_a, at_b) = (database.open_as(a.clone()).await, database.open_as(b.clone()).await);
    at_a.join(&a).await.unwrap();
    silent(&database, "a", 3_600);
    assert!(matches!(at_b.join(&b).await, Ok(Joined::Yes { .. })));
    at_a.beat().await.unwrap();
}

#[tokio::test]
async fn a_node_replaces_one_of_its_name() {
    let database = Database::fresh().await;
    let before = node("a", None);
    let after = NodeRow { incarnation: [7; 16], ..before.clone() };
    let (old, new) =
        (database.open_as(before.clone()).await, database.open_as(after.clone()).await);
    old.join(&before).await.unwrap();
    old.beat().await.unwrap();
    let Joined::Yes { now } = new.join(&after).await.unwrap() else { panic!("replaced") };
    assert!(database_ms(&database).abs_diff(now.0) < 60_000, "{now:?}");
    assert_eq!(old.beat().await, Err(StoreError::MarkLapsed));
    old.leave().await.unwrap();
    assert!(new.beat().await.unwrap() >= now, "leaving took the other's place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_remember_apart_one_joins() {
    const MANY: usize = 12;
    let database = Database::fresh().await;
    let mut nodes = Vec::new();
    for number in 0..MANY {
        let me = node(&format!("node-{number}"), None);
        let store = database.open_as(me.clone()).await;
        store.look_around().await.unwrap();
        nodes.push((me, store));
    }
    for round in 0..10 {
        let start = Arc::new(Barrier::new(MANY));
        let mut tasks = Vec::new();
        for (me, store) in nodes.clone() {
            let start = Arc::clone(&start);
            tasks.push(tokio::spawn(async move {
                start.wait().await;
                store.join(&me).await.unwrap()
            }));
        }
        let mut joined = 0;
        for task in tasks {
            joined += u32::from(matches!(task.await.unwrap(), Joined::Yes { .. }));
        }
        assert_eq!(joined, 1, "round {round}");
        for (_, store) in &nodes {
            store.leave().await.unwrap();
        }
    }
}

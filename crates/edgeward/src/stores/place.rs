//! A node's place among the others over one database.

use anyhow::bail;
use edgeward_config::Config;
use edgeward_store::Clock;
use edgeward_store::durable::Durable;
use edgeward_store::fleet::{Around, Fleet, Joined, NodeRow, Other};

/// Whether there is room for this node, and its clock is near enough to the database's.
pub(super) async fn look_around(
    fleet: &dyn Fleet,
    config: &Config,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    let before = clock.now().wall;
    let Around { now, alone } = fleet.look_around().await?;
    let after = clock.now().wall;
    let apart_ms = now.since(after).max(before.since(now));
    let window_ms = config.agent.hmac_window_ms;
    if apart_ms > window_ms {
        bail!(
            "this machine's clock and the database's are {apart_ms} ms apart, and timestamps are good for {window_ms} ms: set both by NTP, and start again"
        );
    }
    match alone {
        None => Ok(()),
        Some(other) if config.redis.is_some() => bail!(apart(&other, "in a Redis")),
        Some(other) => bail!(apart(&other, "by itself as well")),
    }
}

/// Joins the other nodes, and says so where nonces are remembered together with them. A place that
/// is of no use, or may have been taken, is given back.
pub(super) async fn take(
    fleet: Option<&dyn Fleet>,
    durable: &dyn Durable,
    node: &NodeRow,
) -> anyhow::Result<()> {
    let taken = try_to_take(fleet, durable, node).await;
    if taken.is_err() {
        leave(fleet).await;
    }
    taken
}

pub(super) async fn leave(fleet: Option<&dyn Fleet>) {
    if let Some(fleet) = fleet
        && let Err(error) = fleet.leave().await
    {
        tracing::warn!(%error, "the node could not say that it leaves: it counts as up for a while");
    }
}

async fn try_to_take(
    fleet: Option<&dyn Fleet>,
    durable: &dyn Durable,
    node: &NodeRow,
) -> anyhow::Result<()> {
    if let Some(fleet) = fleet
        && let Joined::Apart(other) = fleet.join(node).await?
    {
        bail!(apart(&other, &remembers(node.store.as_deref())));
    }
    if node.store.is_some() {
        durable.share_run().await?;
    }
    Ok(())
}

fn remembers(store: Option<&str>) -> String {
    store.map_or_else(|| "by itself".to_owned(), |id| format!("in the Redis {id}"))
}

/// Why a node cannot be up beside another one, and what to do about it.
fn apart(other: &Other, this: &str) -> String {
    let Other { name, store, seen_ms_ago, gone_in_ms } = other;
    let there = remembers(store.as_deref());
    let wait_s = gone_in_ms.div_ceil(1_000);
    format!(
        "the node {name} was up {seen_ms_ago} ms ago and remembers nonces {there}, this one {this}: a request could pass at both. Give every node the same EDGE_REDIS_URL and EDGE_REDIS_PREFIX, or stop the other one in order; where it was killed, try again in {wait_s} s"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use edgeward_core::time::WallMs;
    use edgeward_sqlite::SqliteStore;
    use edgeward_store::StoreError;
    use edgeward_store::clock::ManualClock;
    use edgeward_store::durable::{Continuity as _, LastRun};
    use edgeward_store::fleet::{ChangeId, Changes, Followed, Nodes};

    use super::*;

    /// The other nodes, and what was asked of them.
    struct Others {
        around: Around,
        joined: Result<Joined, StoreError>,
        asked: Mutex<Vec<&'static str>>,
    }

    impl Others {
        fn new(alone: Option<Other>, joined: Result<Joined, StoreError>) -> Self {
            let around = Around { now: WallMs(1_000_000), alone };
            Self { around, joined, asked: Mutex::default() }
        }

        fn ask(&self, what: &'static str) {
            self.asked.lock().unwrap().push(what);
        }
    }

    #[async_trait]
    impl Nodes for Others {
        async fn look_around(&self) -> Result<Around, StoreError> {
            self.ask("look around");
            Ok(self.around.clone())
        }

        async fn join(&self, _: &NodeRow) -> Result<Joined, StoreError> {
            self.ask("join");
            self.joined.clone()
        }

        async fn beat(&self) -> Result<WallMs, StoreError> {
            Ok(self.around.now)
        }

        async fn leave(&self) -> Result<(), StoreError> {
            self.ask("leave");
            Ok(())
        }
    }

    #[async_trait]
    impl Changes for Others {
        async fn newest_change(&self) -> Result<ChangeId, StoreError> {
            Ok(ChangeId(0))
        }

        async fn changes_after(&self, _: ChangeId, _: u32) -> Result<Followed, StoreError> {
            Ok(Followed::Changes(Vec::new()))
        }

        async fn stirred(&self) {}
    }

    fn other(store: Option<&str>) -> Other {
        let store = store.map(str::to_owned);
        Other { name: "edge-1".into(), store, seen_ms_ago: 700, gone_in_ms: 9_300 }
    }

    fn this(store: Option<&str>) -> NodeRow {
        let store = store.map(str::to_owned);
        NodeRow { name: "edge-2".into(), incarnation: [1; 16], store, version: "1".into() }
    }

    fn settings(redis: bool) -> Config {
        let given = [("EDGE_PROFILE", "development"), ("EDGE_REDIS_URL", "redis://127.0.0.1:6379")];
        let given = given.into_iter().take(if redis { 2 } else { 1 });
        let flags = given.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let sources = edgeward_config::Sources { flags, ..Default::default() };
        edgeward_config::load(&sources, 0).unwrap_or_else(|faults| panic!("{faults}")).config
    }

    #[tokio::test]
    async fn a_node_with_a_wrong_clock_or_without_room_takes_no_place() {
        let at = |wall: u64| ManualClock::at(WallMs(wall));
        let config = settings(true);
        let free = Others::new(None, Ok(Joined::Yes { now: WallMs(1_000_000) }));
        let window_ms = config.agent.hmac_window_ms;
        look_around(&free, &config, &at(1_000_000 + window_ms)).await.unwrap();
        look_around(&free, &config, &at(1_000_000 - window_ms)).await.unwrap();
        for wall in [1_000_001 + window_ms, 999_999 - window_ms] {
            let refused = look_around(&free, &config, &at(wall)).await.unwrap_err().to_string();
            assert!(refused.contains("ms apart") && refused.contains("NTP"), "{refused}");
        }
        let alone = Others::new(Some(other(None)), Ok(Joined::Yes { now: WallMs(0) }));
        for redis in [false, true] {
            let refused = look_around(&alone, &settings(redis), &at(1_000_000)).await.unwrap_err();
            let refused = refused.to_string();
            assert!(refused.contains("edge-1 was up 700 ms ago"), "{refused}");
            assert!(refused.contains("remembers nonces by itself"), "{refused}");
        }
        for others in [free, alone] {
            let asked = others.asked.into_inner().unwrap();
            assert!(asked.iter().all(|asked| *asked == "look around"), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn whoever_remembers_elsewhere_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let durable = SqliteStore::open(&folder.path().join("edge.db"), "edge-2").await.unwrap();
        for (there, here) in [(Some("red"), Some("blue")), (Some("red"), None), (None, None)] {
            let others = Others::new(None, Ok(Joined::Apart(other(there))));
            let refused = take(Some(&others), &durable, &this(here)).await.unwrap_err();
            let refused = refused.to_string();
            for word in ["edge-1", "EDGE_REDIS_URL", "EDGE_REDIS_PREFIX", "10 s"]
                .into_iter()
                .chain(there)
                .chain(here)
            {
                assert!(refused.contains(word), "{word}: {refused}");
            }
        }
        assert_eq!(durable.begin_run().await, Ok(LastRun::None), "nothing is said to be shared");
    }

    #[tokio::test]
    async fn a_place_is_given_back_where_the_start_fails() {
        let folder = tempfile::tempdir().unwrap();
        let durable = SqliteStore::open(&folder.path().join("edge.db"), "edge-2").await.unwrap();
        let yes = || Ok(Joined::Yes { now: WallMs(1_000_000) });
        let open = Others::new(None, yes());
        take(Some(&open), &durable, &this(Some("red"))).await.unwrap();
        assert_eq!(*open.asked.lock().unwrap(), ["join"]);
        assert_eq!(durable.begin_run().await, Ok(LastRun::Shared));
        durable.close().await;
        // It is not known whether it has joined; and what is shared could not be said.
        let unknown = Err(StoreError::Unavailable("no answer within 1 s".into()));
        for joined in [unknown, yes()] {
            let others = Others::new(None, joined);
            take(Some(&others), &durable, &this(Some("red"))).await.unwrap_err();
            assert_eq!(*others.asked.lock().unwrap(), ["join", "leave"]);
        }
    }
}

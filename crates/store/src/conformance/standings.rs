//! Whether agents may act.

use std::sync::Arc;

use edgeward_core::record::Standing;

use super::at_once;
use super::enrollments::Seeds;
use super::events::event;
use super::forge::agent_id;
use crate::EventKind;
use crate::durable::{Durable, Redeemed, Stands};

/// All of [`Standings`](crate::durable::Standings), on a store without agents and events.
///
/// # Panics
/// When a promise is broken.
pub async fn standings<S: Durable>(store: Arc<S>) {
    let nobody = event(1, EventKind::AgentBlocked);
    let unknown = store.set_standing(agent_id(9), Standing::Blocked, nobody).await.unwrap();
    assert_eq!(unknown, None);
    assert!(store.newest_events(10).await.unwrap().is_empty(), "nothing happened to nobody");

    let row = Seeds::enrollment(1, "owner");
    store.start_enrollment(row, Seeds::started(1)).await.unwrap();
    let (agent, told) = (Seeds::agent(1, 1), Seeds::completed(1));
    let id = agent.id;
    let redeemed = store.redeem_code(&Seeds::code(1), agent, None, told, Seeds::now()).await;
    assert_eq!(redeemed, Ok(Redeemed::Done { epoch: 1 }));
    let secrets = store.agent(id).await.unwrap().unwrap().secrets;

    let cases = [
        (
            Standing::Active,
            EventKind::AgentUnblocked,
            Stands::Already { epoch: 1 },
            Standing::Active,
            1,
        ),
        (
            Standing::Blocked,
            EventKind::AgentBlocked,
            Stands::Now { epoch: 2 },
            Standing::Blocked,
            2,
        ),
        (
            Standing::Blocked,
            EventKind::AgentBlocked,
            Stands::Already { epoch: 2 },
            Standing::Blocked,
            2,
        ),
        (
            Standing::Active,
            EventKind::AgentUnblocked,
            Stands::Now { epoch: 3 },
            Standing::Active,
            3,
        ),
        (
            Standing::Retired,
            EventKind::AgentRetired,
            Stands::Now { epoch: 4 },
            Standing::Retired,
            4,
        ),
        (Standing::Active, EventKind::AgentUnblocked, Stands::Retired, Standing::Retired, 4),
        (Standing::Blocked, EventKind::AgentBlocked, Stands::Retired, Standing::Retired, 4),
        (
            Standing::Retired,
            EventKind::AgentRetired,
            Stands::Already { epoch: 4 },
            Standing::Retired,
            4,
        ),
    ];
    for (number, (asked, kind, answer, stands, epoch)) in (10..).zip(cases) {
        let before = store.newest_events(100).await.unwrap();
        let told = event(number, kind);
        assert_eq!(
            store.set_standing(id, asked, told.clone()).await,
            Ok(Some(answer)),
            "{asked:?}"
        );
        let after = store.agent(id).await.unwrap().unwrap();
        assert_eq!((after.standing, after.epoch), (stands, epoch), "{asked:?}");
        assert_eq!(after.secrets, secrets, "secrets are another matter");
        let mut expected = before;
        if matches!(answer, Stands::Now { .. }) {
            expected.insert(0, told);
        }
        assert_eq!(store.newest_events(100).await.unwrap(), expected, "{asked:?}");
    }
    many_at_once(&store).await;
}

/// Of many that block an agent at once one has done it, and the epoch is raised once.
async fn many_at_once<S: Durable>(store: &Arc<S>) {
    let row = Seeds::enrollment(2, "owner");
    store.start_enrollment(row, Seeds::started(2)).await.unwrap();
    let (agent, told) = (Seeds::agent(2, 1), Seeds::completed(2));
    let id = agent.id;
    store.redeem_code(&Seeds::code(2), agent, None, told, Seeds::now()).await.unwrap();
    let answers = at_once(|number| {
        let store = Arc::clone(store);
        let told = event(number as u8, EventKind::AgentBlocked);
        async move { store.set_standing(id, Standing::Blocked, told).await.unwrap().unwrap() }
    })
    .await;
    let done = answers.iter().filter(|answer| **answer == Stands::Now { epoch: 2 }).count();
    assert_eq!(done, 1);
    assert!(answers.iter().all(|answer| *answer != Stands::Retired));
    assert_eq!(store.agent(id).await.unwrap().unwrap().epoch, 2);
}

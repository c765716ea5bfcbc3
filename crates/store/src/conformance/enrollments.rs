//! Codes, and the agents that they make.

use std::sync::Arc;

use edgeward_core::enroll::{Grant, MAX_WRONG_COMPLETIONS};
use edgeward_core::record::Standing;
use edgeward_core::time::WallMs;
use edgeward_wire::{Challenge, DevicePublicKey, EnrollCode, OwnerId, Scope};
use serde_json::json;

use super::events::{event, object};
use super::forge::agent_id;
use super::{CROWD, at_once};
use crate::durable::{
    AgentRow, Durable, EnrollmentRow, NewAgent, Redeemed, Sealed, SecretRow, SecretStatus,
};
use crate::{Event, EventKind};

const NOW: WallMs = WallMs(1_764_000_000_000);
const EXPIRES: WallMs = WallMs(NOW.0 + 600_000);

/// Rows of numbers, for a backend's own tests too.
#[derive(Debug, Clone, Copy)]
pub struct Seeds;

impl Seeds {
    /// A code of this number, of this owner.
    #[must_use]
    pub fn enrollment(number: u64, owner: &str) -> EnrollmentRow {
        EnrollmentRow {
            code_hash: Self::code(number),
            challenge: Challenge::from_random(&[number as u8; 32]),
            owner: OwnerId::parse(owner).unwrap(),
            grant: Grant {
                alias: Some(format!("alias {number}")),
                platform: Some("linux".into()),
                scopes: vec![Scope::parse("llm:chat").unwrap(), Scope::parse("b").unwrap()],
                allowed_cidrs: vec![
                    "10.0.0.0/8".parse().unwrap(),
                    "2001:db8::/32".parse().unwrap(),
                ],
                metadata: object(&json!({"number": number, "deep": {"list": [1, "ü"]}})),
                key_thumbprint: Some(DevicePublicKey::P256 { x: [1; 32], y: [2; 32] }.thumbprint()),
            },
            agent: None,
            expires_at: EXPIRES,
        }
    }

    /// The hash of the code of this number.
    #[must_use]
    pub fn code(number: u64) -> [u8; 32] {
        EnrollCode::from_random(number.to_be_bytes()).hash()
    }

    /// The agent of this number with a secret of this version.
    #[must_use]
    pub fn agent(number: u64, version: u32) -> NewAgent {
        NewAgent {
            id: agent_id(number),
            device_key: DevicePublicKey::P256 { x: [number as u8; 32], y: [version as u8; 32] },
            alias: None,
            platform: None,
            secret: SecretRow {
                version,
                sealed: Sealed(vec![version as u8; 50]),
                fingerprint: format!("{number:016x}"),
                status: SecretStatus::Active,
                activated_at: Some(NOW),
                grace_until: None,
                expires_at: NOW.plus(1_000_000),
            },
        }
    }

    /// The moment at which these rows are valid.
    #[must_use]
    pub fn now() -> WallMs {
        NOW
    }

    /// The event that tells of a code.
    #[must_use]
    pub fn started(number: u64) -> Event {
        event(number as u8, EventKind::AgentEnrollStarted)
    }

    /// The event that tells of an agent.
    #[must_use]
    pub fn completed(number: u64) -> Event {
        event(number as u8, EventKind::AgentEnrollCompleted)
    }
}

/// All of `Agents` and `Enrollments`, on a store without any.
///
/// # Panics
/// When a promise is broken.
pub async fn agents_and_enrollments<S: Durable + 'static>(store: Arc<S>) {
    a_code_is_found_until_it_expires(&*store).await;
    a_code_wears_out(&*store).await;
    a_code_makes_an_agent_once(&*store).await;
    an_owner_has_as_many_agents_as_allowed(&*store).await;
    an_agent_is_enrolled_anew(&*store).await;
    of_many_redemptions_one_is_done(&store).await;
    many_codes_at_once_keep_to_the_most(&store).await;
}

async fn start(store: &impl Durable, row: EnrollmentRow, number: u64) {
    store.start_enrollment(row, Seeds::started(number)).await.unwrap();
}

async fn redeem(store: &impl Durable, code: u64, agent: NewAgent, max: Option<u64>) -> Redeemed {
    store.redeem_code(&Seeds::code(code), agent, max, Seeds::completed(code), NOW).await.unwrap()
}

async fn is_live(store: &impl Durable, code: u64) -> bool {
    store.live_enrollment(&Seeds::code(code), NOW).await.unwrap().is_some()
}

async fn newest_event(store: &impl Durable) -> Option<Event> {
    store.newest_events(1).await.unwrap().pop()
}

async fn a_code_is_found_until_it_expires(store: &impl Durable) {
    let row = Seeds::enrollment(1, "first");
    assert!(!is_live(store, 1).await);
    start(store, row.clone(), 1).await;
    assert_eq!(newest_event(store).await, Some(Seeds::started(1)), "state and event together");
    let found = store.live_enrollment(&row.code_hash, EXPIRES.minus(1)).await.unwrap().unwrap();
    assert_eq!(format!("{found:?}"), format!("{row:?}"), "every field as it was given");
    assert!(store.live_enrollment(&row.code_hash, EXPIRES).await.unwrap().is_none());
    let late = store
        .redeem_code(&row.code_hash, Seeds::agent(1, 1), None, Seeds::completed(1), EXPIRES)
        .await;
    assert_eq!(late, Ok(Redeemed::Gone));
    assert_eq!(store.agent(agent_id(1)).await.unwrap(), None);
    assert_eq!(newest_event(store).await, Some(Seeds::started(1)), "nothing happened");
    // A code is given out once.
    assert!(store.start_enrollment(row, Seeds::started(99)).await.is_err());
    assert_eq!(newest_event(store).await, Some(Seeds::started(1)), "no event without its state");
    assert!(is_live(store, 1).await);
}

async fn a_code_wears_out(store: &impl Durable) {
    start(store, Seeds::enrollment(2, "first"), 2).await;
    store.count_wrong_completion(&Seeds::code(12_345)).await.unwrap();
    for wrong in 0..MAX_WRONG_COMPLETIONS {
        assert!(is_live(store, 2).await, "after {wrong}");
        store.count_wrong_completion(&Seeds::code(2)).await.unwrap();
    }
    assert!(!is_live(store, 2).await);
    assert_eq!(redeem(store, 2, Seeds::agent(2, 1), None).await, Redeemed::Gone);
    assert!(is_live(store, 1).await, "another code is not concerned");
}

async fn a_code_makes_an_agent_once(store: &impl Durable) {
    let row = Seeds::enrollment(3, "maker");
    start(store, row.clone(), 3).await;
    assert_eq!(store.next_secret_version(agent_id(3)).await, Ok(1));
    let Redeemed::Done { epoch } = redeem(store, 3, Seeds::agent(3, 1), None).await else {
        panic!("the code is live");
    };
    let expected = AgentRow {
        id: agent_id(3),
        owner: row.owner.clone(),
        alias: row.grant.alias,
        platform: row.grant.platform,
        device_key: Some(Seeds::agent(3, 1).device_key),
        standing: Standing::Active,
        epoch,
        allowed_cidrs: row.grant.allowed_cidrs,
        scopes: row.grant.scopes,
        rate: None,
        legacy: false,
        metadata: row.grant.metadata,
        created_at: NOW,
        secrets: vec![Seeds::agent(3, 1).secret],
    };
    assert_eq!(store.agent(agent_id(3)).await, Ok(Some(expected.clone())));
    assert_eq!(store.count_agents(&row.owner).await, Ok(1));
    assert_eq!(store.next_secret_version(agent_id(3)).await, Ok(2));
    assert_eq!(newest_event(store).await, Some(Seeds::completed(3)));

    assert!(!is_live(store, 3).await);
    start(store, Seeds::enrollment(4, "maker"), 4).await;
    assert_eq!(redeem(store, 3, Seeds::agent(4, 1), None).await, Redeemed::Gone);
    assert_eq!(store.agent(agent_id(4)).await, Ok(None));
    assert_eq!(newest_event(store).await, Some(Seeds::started(4)), "nothing happened");

    // What the device says of itself stands in place of the grant's.
    let named = NewAgent {
        alias: Some("own name".into()),
        platform: Some("own platform".into()),
        ..Seeds::agent(4, 1)
    };
    assert!(matches!(redeem(store, 4, named, None).await, Redeemed::Done { .. }));
    let named = store.agent(agent_id(4)).await.unwrap().unwrap();
    assert_eq!(named.alias.as_deref(), Some("own name"));
    assert_eq!(named.platform.as_deref(), Some("own platform"));

    // A code that cannot be redeemed for want of a right agent is not used up.
    start(store, Seeds::enrollment(5, "maker"), 5).await;
    let taken = store
        .redeem_code(&Seeds::code(5), Seeds::agent(3, 9), None, Seeds::completed(5), NOW)
        .await;
    assert!(taken.is_err(), "the id is another agent's: {taken:?}");
    assert_eq!(store.agent(agent_id(3)).await, Ok(Some(expected)));
    assert_eq!(newest_event(store).await, Some(Seeds::started(5)));
    assert!(is_live(store, 5).await);
}

async fn an_owner_has_as_many_agents_as_allowed(store: &impl Durable) {
    let owner = OwnerId::parse("capped").unwrap();
    assert_eq!(store.count_agents(&owner).await, Ok(0));
    for number in [10, 11] {
        start(store, Seeds::enrollment(number, "capped"), number).await;
    }
    assert!(matches!(redeem(store, 10, Seeds::agent(10, 1), Some(1)).await, Redeemed::Done { .. }));
    assert_eq!(redeem(store, 11, Seeds::agent(11, 1), Some(1)).await, Redeemed::TooManyAgents);
    assert!(is_live(store, 11).await, "the code is not used up");
    assert_eq!(store.agent(agent_id(11)).await, Ok(None));
    assert_eq!(newest_event(store).await, Some(Seeds::completed(10)));
    assert_eq!(store.count_agents(&owner).await, Ok(1));
    // Another owner's agents do not count.
    start(store, Seeds::enrollment(12, "uncapped"), 12).await;
    assert!(matches!(redeem(store, 12, Seeds::agent(12, 1), Some(1)).await, Redeemed::Done { .. }));
    assert!(matches!(redeem(store, 11, Seeds::agent(11, 1), Some(2)).await, Redeemed::Done { .. }));
    assert_eq!(store.count_agents(&owner).await, Ok(2));
}

async fn an_agent_is_enrolled_anew(store: &impl Durable) {
    let before = store.agent(agent_id(10)).await.unwrap().unwrap();
    let mut row = Seeds::enrollment(20, "capped");
    row.agent = Some(before.id);
    row.grant.scopes = vec![Scope::parse("narrow").unwrap()];
    row.grant.allowed_cidrs.clear();
    row.grant.alias = Some("anew".into());
    start(store, row.clone(), 20).await;
    let found = store.live_enrollment(&row.code_hash, NOW).await.unwrap().unwrap();
    assert_eq!(found.agent, row.agent);

    // A code for one agent makes no other.
    let other = store
        .redeem_code(&row.code_hash, Seeds::agent(21, 1), None, Seeds::completed(20), NOW)
        .await;
    assert!(!matches!(other, Ok(Redeemed::Done { .. })), "{other:?}");
    assert_eq!(store.agent(agent_id(21)).await, Ok(None));
    assert!(is_live(store, 20).await);

    // It takes no new place among the owner's agents.
    let done = redeem(store, 20, Seeds::agent(10, 2), Some(1)).await;
    let after = store.agent(before.id).await.unwrap().unwrap();
    assert_eq!(done, Redeemed::Done { epoch: after.epoch });
    assert!(after.epoch > before.epoch, "{} after {}", after.epoch, before.epoch);
    let old = SecretRow { status: SecretStatus::Retired, ..before.secrets[0].clone() };
    let expected = AgentRow {
        epoch: after.epoch,
        alias: row.grant.alias,
        scopes: row.grant.scopes,
        allowed_cidrs: row.grant.allowed_cidrs,
        metadata: row.grant.metadata,
        device_key: Some(Seeds::agent(10, 2).device_key),
        secrets: vec![Seeds::agent(10, 2).secret, old],
        ..before
    };
    assert_eq!(after, expected);
    assert_eq!(store.next_secret_version(after.id).await, Ok(3));

    // Never for an owner whose agent it is not.
    let mut foreign = Seeds::enrollment(22, "uncapped");
    foreign.agent = Some(after.id);
    start(store, foreign, 22).await;
    let taken = store
        .redeem_code(&Seeds::code(22), Seeds::agent(10, 3), None, Seeds::completed(22), NOW)
        .await;
    assert!(!matches!(taken, Ok(Redeemed::Done { .. })), "{taken:?}");
    assert_eq!(store.agent(after.id).await, Ok(Some(after)));
}

async fn of_many_redemptions_one_is_done<S: Durable + 'static>(store: &Arc<S>) {
    for round in 0..10 {
        let code = 30 + round;
        let owner = format!("race-{round}");
        start(&**store, Seeds::enrollment(code, &owner), code).await;
        let answers = at_once(|number| {
            let store = Arc::clone(store);
            let agent = Seeds::agent(1_000 + round * 100 + u64::from(number), 1);
            async move { (agent.id, redeem(&*store, code, agent, None).await) }
        })
        .await;
        let done: Vec<_> =
            answers.iter().filter(|(_, answer)| matches!(answer, Redeemed::Done { .. })).collect();
        let gone = answers.iter().filter(|(_, answer)| *answer == Redeemed::Gone).count();
        assert_eq!((done.len(), gone), (1, CROWD as usize - 1), "round {round}");
        let owner = OwnerId::parse(&owner).unwrap();
        assert_eq!(store.count_agents(&owner).await, Ok(1));
        assert!(store.agent(done[0].0).await.unwrap().is_some());
        let told = store.newest_events(2).await.unwrap();
        assert_eq!(told, [Seeds::completed(code), Seeds::started(code)], "one event");
    }
}

async fn many_codes_at_once_keep_to_the_most<S: Durable + 'static>(store: &Arc<S>) {
    for number in 0..CROWD {
        let number = 5_000 + u64::from(number);
        start(&**store, Seeds::enrollment(number, "crowd"), number).await;
    }
    let answers = at_once(|number| {
        let (store, number) = (Arc::clone(store), 5_000 + u64::from(number));
        async move { redeem(&*store, number, Seeds::agent(number, 1), Some(10)).await }
    })
    .await;
    let done = answers.iter().filter(|answer| matches!(answer, Redeemed::Done { .. })).count();
    let many = answers.iter().filter(|answer| **answer == Redeemed::TooManyAgents).count();
    assert_eq!((done, many), (10, CROWD as usize - 10));
    assert_eq!(store.count_agents(&OwnerId::parse("crowd").unwrap()).await, Ok(10));
}

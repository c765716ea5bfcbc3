//! Events.

use edgeward_core::time::WallMs;
use edgeward_wire::{OwnerId, TraceId};
use serde_json::{Map, Value, json};

use super::forge::agent_id;
use crate::durable::Events;
use crate::{Event, EventKind};

/// An event of this number.
pub(super) fn event(number: u8, kind: EventKind) -> Event {
    Event {
        occurred_at: WallMs(1_764_000_000_000 + u64::from(number)),
        kind,
        agent: Some(agent_id(u64::from(number))),
        owner: Some(OwnerId::parse("owner").unwrap()),
        trace: TraceId::from_random([number; 16]),
        payload: object(
            &json!({"number": number, "nested": {"text": "ä\u{0}\"'", "list": [1, null]}}),
        ),
    }
}

pub(super) fn object(value: &Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

/// All of [`Events`], on a store without any.
///
/// # Panics
/// When a promise is broken.
pub async fn events(store: &impl Events) {
    assert_eq!(store.newest_events(10).await.unwrap(), []);
    store.record(&[]).await.unwrap();
    let kinds = [
        EventKind::AgentEnrollStarted,
        EventKind::AgentEnrollCompleted,
        EventKind::AgentSessionStarted,
        EventKind::AgentSessionEnded,
        EventKind::AgentTokenRefreshed,
        EventKind::AuthViolation,
        EventKind::JwtKeyPublished,
        EventKind::JwtKeyActivated,
    ];
    let mut written: Vec<Event> =
        kinds.into_iter().zip(1..).map(|(kind, number)| event(number, kind)).collect();
    written.push(Event {
        agent: None,
        owner: None,
        payload: Map::new(),
        // Older than those before it: the order is that of writing.
        occurred_at: WallMs(1),
        ..event(100, EventKind::AuthViolation)
    });
    store.record(&written[..4]).await.unwrap();
    store.record(&written[4..]).await.unwrap();
    written.reverse();
    assert_eq!(store.newest_events(100).await.unwrap(), written);
    assert_eq!(store.newest_events(3).await.unwrap(), written[..3]);
    assert_eq!(store.newest_events(0).await.unwrap(), []);
}

//! Events.

use edgeward_core::time::WallMs;
use edgeward_wire::{OwnerId, SessionIdHash, TraceId};
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
    sessions_ended(store).await;
}

/// Among other events, those that tell of a session's end, from a moment on.
async fn sessions_ended(store: &impl Events) {
    let from = event(0, EventKind::AuthViolation).occurred_at.plus(1_000_000);
    assert_eq!(store.sessions_ended_since(from).await.unwrap(), []);
    let told = |kind, after_ms: u64, number: u8| {
        let id = SessionIdHash::from_bytes([number; 32]);
        let payload = object(&json!({"session": id.to_string(), "reason": "ended_by_agent"}));
        Event { occurred_at: from.plus(after_ms), payload, ..event(number, kind) }
    };
    let ended = |after_ms, number| told(EventKind::AgentSessionEnded, after_ms, number);
    let nameless = Event { agent: None, ..ended(3, 9) };
    let without = Event { payload: Map::new(), ..ended(3, 9) };
    let written = [
        ended(2, 1),
        told(EventKind::AgentSessionStarted, 3, 9),
        nameless,
        without,
        ended(0, 2),
        ended(1, 3),
    ];
    store.record(&written).await.unwrap();
    let expected = |numbers: &[u8]| -> Vec<_> {
        let id = |number: u8| SessionIdHash::from_bytes([number; 32]);
        numbers.iter().map(|number| (agent_id(u64::from(*number)), id(*number))).collect()
    };
    for (after_ms, numbers) in [(0, &[1, 2, 3][..]), (1, &[1, 3]), (2, &[1]), (3, &[])] {
        let answer = store.sessions_ended_since(from.plus(after_ms)).await.unwrap();
        assert_eq!(answer, expected(numbers), "since {after_ms}");
    }
}

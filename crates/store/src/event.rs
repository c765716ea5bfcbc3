//! Audit events (`bus_events`): what happened, to whom, by which request.

use edgeward_core::time::WallMs;
use edgeward_wire::{AgentId, OwnerId, SessionIdHash, TraceId};
use serde_json::{Map, Value};

/// Declares the kinds with their names.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $text:literal;)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind { $($(#[$doc])* $kind,)* }

        impl EventKind {
            /// The `type` column.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $text,)* }
            }

            /// Reads a `type` column.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$kind),)* _ => None }
            }
        }
    };
}

kinds! {
    /// An owner was given a code.
    AgentEnrollStarted "agent_enroll_started";
    /// A code was redeemed.
    AgentEnrollCompleted "agent_enroll_completed";
    /// A session began.
    AgentSessionStarted "agent_session_started";
    /// A session was ended.
    AgentSessionEnded "agent_session_ended";
    /// An operator has blocked the agent.
    AgentBlocked "agent_blocked";
    /// An operator lets it act again.
    AgentUnblocked "agent_unblocked";
    /// An operator has retired it, for good.
    AgentRetired "agent_retired";
    /// A JWT was refreshed.
    AgentTokenRefreshed "agent_token_refreshed";
    /// Requests were refused; folded, with a count.
    AuthViolation "auth_violation";
    /// A JWT key was published.
    JwtKeyPublished "jwt_key_published";
    /// A JWT key began to sign.
    JwtKeyActivated "jwt_key_activated";
}

/// One row of `bus_events`. Ids are made by the store, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When it happened.
    pub occurred_at: WallMs,
    /// What happened.
    pub kind: EventKind,
    /// The agent concerned.
    pub agent: Option<AgentId>,
    /// Its owner.
    pub owner: Option<OwnerId>,
    /// The request that did it.
    pub trace: TraceId,
    /// More, without any secret.
    pub payload: Map<String, Value>,
}

impl Event {
    /// The session that this event says has ended.
    #[must_use]
    pub fn ended_session(&self) -> Option<(AgentId, SessionIdHash)> {
        if self.kind != EventKind::AgentSessionEnded {
            return None;
        }
        let id = self.payload.get("session")?.as_str()?;
        Some((self.agent?, SessionIdHash::parse(id).ok()?))
    }
}

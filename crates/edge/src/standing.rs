//! Whether agents may act: what an operator changes, and what follows from it on this node.
//!
//! The change is durable first. Then what was read of the agent is forgotten here, the other nodes are
//! told, its sessions end and its streams are cut. The other nodes learn of it from the change log as
//! well, whatever becomes of the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgeward_core::record::{Fact, Standing};
use edgeward_core::time::Now;
use edgeward_store::durable::Stands;
use edgeward_store::{Event, EventKind, StoreError};
use edgeward_wire::{AgentId, SessionIdHash};
use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use crate::directory::Secrets;
use crate::edge::Edge;
use crate::endpoints::object;
use crate::streams::CutReason;

/// So many sessions are ended at once.
const AT_ONCE: usize = 64;

/// Who asked for a change, and why.
#[derive(Debug, Clone)]
pub struct Act {
    /// The operator.
    pub actor: String,
    /// In the operator's words.
    pub reason: Option<String>,
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// How it stands.
    pub stands: Stands,
    /// Streams of this node that were cut.
    pub streams_cut: usize,
}

impl Edge {
    /// Changes whether an agent may act; `Ok(None)` when there is no such agent. It comes to its end
    /// whoever stops waiting for it.
    ///
    /// # Errors
    /// When the change could not be written, or its end could not be learned.
    pub async fn set_standing(
        self: &Arc<Self>,
        id: AgentId,
        standing: Standing,
        act: Act,
    ) -> Result<Option<Receipt>, StoreError> {
        let edge = Arc::clone(self);
        let work = tokio::spawn(async move { edge.change_standing(id, standing, act).await });
        work.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    async fn change_standing(
        &self,
        id: AgentId,
        standing: Standing,
        act: Act,
    ) -> Result<Option<Receipt>, StoreError> {
        let Some(row) = self.durable.agent(id).await? else {
            return Ok(None);
        };
        let event = Event {
            occurred_at: self.clock.now().wall,
            kind: match standing {
                Standing::Active => EventKind::AgentUnblocked,
                Standing::Blocked => EventKind::AgentBlocked,
                Standing::Retired => EventKind::AgentRetired,
            },
            agent: Some(id),
            owner: Some(row.owner),
            trace: self.traces.trace(),
            payload: object(json!({"actor": act.actor, "reason": act.reason})),
        };
        let changed = self.durable.set_standing(id, standing, event).await;
        // Also when the answer is an error: it may have been written all the same. And where it was so
        // before: whoever did it may not have come to telling it.
        let voids = standing != Standing::Active;
        if matches!(changed, Ok(None | Some(Stands::Retired)))
            || !voids && matches!(changed, Ok(Some(Stands::Already { .. })))
        {
            let unchanged = |stands| Receipt { stands, streams_cut: 0 };
            return changed.map(|stands| stands.map(unchanged));
        }
        let streams_cut = self.revoke(id, CutReason::Blocked).await;
        Ok(changed?.map(|stands| Receipt { stands, streams_cut }))
    }

    /// What was given to the agent before is void, as its new epoch says, which is durable: it is
    /// forgotten, everybody is told, then its sessions end, then its streams; how many of them.
    pub(crate) async fn revoke(&self, id: AgentId, reason: CutReason) -> usize {
        self.directory.forget(id);
        if let Some(signals) = &self.signals
            && let Err(error) = signals.tell_agent(id).await
        {
            tracing::warn!(agent = %id, %error, "other nodes were not told at once: they learn of it from the database");
        }
        // A session of an older epoch opens nothing, whether it has ended or not.
        if let Err(error) = self.sessions.end_sessions_of(id).await {
            tracing::warn!(agent = %id, %error, "its sessions are void and could not be taken out");
        }
        self.streams.cut_agent(id, reason, self.clock.now().mono)
    }

    /// Another node has changed something about the agent, which was forgotten when that was heard: it is
    /// read anew, and streams that it may no longer hold are cut. `false` when it could not be read: then
    /// this must be tried again.
    pub(crate) async fn learn_of_agent(&self, id: AgentId) -> bool {
        if !self.streams.has_agent(id) {
            return true;
        }
        let now = self.clock.now();
        let cut = match self.directory.look(id, Secrets::Left, now).await {
            Fact::Unavailable => return false,
            Fact::Answered(Some(agent)) => match agent.standing {
                Standing::Active => {
                    let reason = CutReason::Reenrolled;
                    self.streams.cut_older(id, agent.epoch, reason, now.mono)
                }
                Standing::Blocked | Standing::Retired => {
                    self.streams.cut_agent(id, CutReason::Blocked, now.mono)
                }
            },
            Fact::Answered(None) => self.streams.cut_agent(id, CutReason::Blocked, now.mono),
        };
        tracing::debug!(agent = %id, cut, "an agent was changed elsewhere");
        true
    }

    /// Ends anew the sessions that the database says have ended: the shared store may have come back as
    /// it was before. `false` when that could not be done; then nothing may pass.
    pub(crate) async fn end_anew(&self) -> bool {
        let longest_ms = self.policy.load().session_max_ms;
        let since = self.clock.now().wall.minus(longest_ms);
        let ended = match self.durable.sessions_ended_since(since).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(%error, "which sessions have ended could not be read");
                return false;
            }
        };
        // Requests wait for this, and there may be a day's worth of them.
        let again = AtomicUsize::new(0);
        let each = stream::iter(&ended).map(Ok).try_for_each_concurrent(AT_ONCE, |(agent, id)| {
            let again = &again;
            async move {
                let was_there = self.sessions.end_session(*agent, id).await?;
                again.fetch_add(usize::from(was_there), Ordering::Relaxed);
                Ok::<_, StoreError>(())
            }
        });
        if let Err(error) = each.await {
            tracing::warn!(%error, "a session that has ended could not be ended anew");
            return false;
        }
        tracing::warn!(
            ended = ended.len(),
            again = again.into_inner(),
            "the shared store may remember what it was before: sessions that had ended were ended anew"
        );
        true
    }

    /// Another node may have ended or extended a session that has streams here. `false` when it could
    /// not be looked at: then this must be tried again, and the streams stay.
    pub(crate) async fn learn_of_session(&self, agent: AgentId, id: &SessionIdHash) -> bool {
        match self.sessions.find_session(agent, id).await {
            Ok(Some(session)) => self.streams.extend(id, session.expires_at),
            Ok(None) => {
                let Now { mono, .. } = self.clock.now();
                let cut = self.streams.cut_session(id, mono);
                tracing::debug!(session = %id, cut, "a session was ended elsewhere");
            }
            Err(error) => {
                tracing::warn!(session = %id, %error, "a session with streams could not be looked at");
                return false;
            }
        }
        true
    }
}

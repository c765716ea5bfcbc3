//! Sessions in Redis: what is written of one, and how it is read, extended and ended.
//!
//! Each is a value of its own that Redis lets expire, beside an index of the agent's. Whoever can
//! write to Redis can end a session, or have it end up to its maximum; all else that it may do is
//! bound to its sealed key.

mod value;

use std::sync::Arc;

use edgeward_core::record::Session;
use edgeward_core::time::MonoMs;
use edgeward_store::StoreError;
use edgeward_store::shared::{NewSession, SealSessions, Told};
use edgeward_wire::{AgentId, SessionIdHash};
use redis::Value;

use crate::bucket::Bucket;
use crate::calls::{Calls, read};
use crate::link::{Link, Script};
use crate::near::{Look, Near, Ticket};
use crate::signals::{Ears, session_message};

const START: &str =
    concat!(include_str!("scripts/clock.lua"), include_str!("scripts/session_start.lua"));
const EXTEND: &str =
    concat!(include_str!("scripts/clock.lua"), include_str!("scripts/session_extend.lua"));
const END: &str = include_str!("scripts/session_end.lua");
const END_ALL: &str = include_str!("scripts/session_end_all.lua");

pub(crate) struct SessionTable {
    calls: Arc<Calls>,
    ears: Arc<Ears>,
    seal: Arc<dyn SealSessions>,
    start: Script,
    extend: Script,
    end: Script,
    end_all: Script,
}

impl SessionTable {
    pub(crate) fn new(calls: Arc<Calls>, ears: Arc<Ears>, seal: Arc<dyn SealSessions>) -> Self {
        Self {
            calls,
            ears,
            seal,
            start: Script::new(START),
            extend: Script::new(EXTEND),
            end: Script::new(END),
            end_all: Script::new(END_ALL),
        }
    }

    pub(crate) async fn start(&self, new: NewSession) -> Result<(), StoreError> {
        let (agent, id) = (new.session.agent, new.session.id);
        let ticket = self.ears.near.ticket(agent, &id, self.calls.now().mono);
        let written = value::write(&new, &*self.seal, self.calls.server_now(Bucket::of(agent)))?;
        let (session, index) = (self.session_key(agent, &id), self.calls.keys.sessions_of(agent));
        let args = [written.text, written.exp_ms.to_string(), written.max_ms.to_string()];
        let args = args.each_ref().map(String::as_bytes);
        let bucket = Bucket::of(agent);
        self.calls.script_in(bucket, &self.start, &[&session, &index], &args).await?;
        self.ears.near.keep(&ticket, &new.session);
        Ok(())
    }

    /// From memory where it may be, else from Redis.
    pub(crate) async fn find(
        self: &Arc<Self>,
        agent: AgentId,
        id: &SessionIdHash,
    ) -> Result<Option<Session>, StoreError> {
        // No link, no pushes: what is in memory would be closed to us as well.
        let link = self.calls.hub.link(Bucket::of(agent))?;
        match self.ears.near.look(agent, id, self.calls.now().mono) {
            Look::Fresh(session) => Ok(Some(session)),
            Look::Confirm(session, ticket) => {
                let (table, id) = (Arc::clone(self), *id);
                tokio::spawn(async move {
                    if let Err(error) = table.look(&link, agent, &id, &ticket).await {
                        tracing::debug!(%error, "a session could not be read again");
                    }
                    Near::not_confirmed(&ticket);
                });
                Ok(Some(session))
            }
            Look::Miss(ticket) => {
                self.calls.note_round_trip();
                self.look(&link, agent, id, &ticket).await
            }
        }
    }

    /// Reads a session from Redis and keeps a copy.
    async fn look(
        &self,
        link: &Link,
        agent: AgentId,
        id: &SessionIdHash,
        ticket: &Ticket,
    ) -> Result<Option<Session>, StoreError> {
        let mut command = redis::pipe();
        command.cmd("GET").arg(self.session_key(agent, id));
        let found = self.opened(agent, id, self.calls.one(link, &command).await?);
        match &found {
            Ok(Some(session)) => self.ears.near.keep(ticket, session),
            // What is not there, or cannot be read, must not be found in memory either.
            Ok(None) | Err(_) => self.ears.near.invalidate(agent, id),
        }
        found
    }

    pub(crate) async fn extend(
        &self,
        agent: AgentId,
        id: &SessionIdHash,
        until: MonoMs,
    ) -> Result<Option<Session>, StoreError> {
        let (session, index) = (self.session_key(agent, id), self.calls.keys.sessions_of(agent));
        let until = self.calls.server_now(Bucket::of(agent)).wall_at(until);
        let args = [until.0.to_string(), self.calls.keys.told(), session_message(agent, id)];
        let args = args.each_ref().map(String::as_bytes);
        let bucket = Bucket::of(agent);
        let answer = self.calls.script_in(bucket, &self.extend, &[&session, &index], &args).await?;
        self.ears.near.invalidate(agent, id);
        self.opened(agent, id, answer)
    }

    pub(crate) async fn end(&self, agent: AgentId, id: &SessionIdHash) -> Result<bool, StoreError> {
        let (session, index) = (self.session_key(agent, id), self.calls.keys.sessions_of(agent));
        let args = [self.calls.keys.told(), session_message(agent, id)];
        let args = args.each_ref().map(String::as_bytes);
        let bucket = Bucket::of(agent);
        let answer = self.calls.script_in(bucket, &self.end, &[&session, &index], &args).await;
        // Also when nobody knows whether it ended: then the next look asks Redis.
        self.ears.hear(Told::Session { agent, id: *id });
        Ok(read::<i64>(answer?)? == 1)
    }

    pub(crate) async fn end_all(&self, agent: AgentId) -> Result<Vec<SessionIdHash>, StoreError> {
        let index = self.calls.keys.sessions_of(agent);
        let args = [self.calls.keys.told(), format!("s {agent} ")];
        let args = args.each_ref().map(String::as_bytes);
        let bucket = Bucket::of(agent);
        let answer = self.calls.script_in(bucket, &self.end_all, &[&index], &args).await;
        // Nobody knows here which sessions there were.
        self.ears.near.forget(bucket);
        let ended: Vec<String> = read(answer?)?;
        let ids: Vec<SessionIdHash> = ended.iter().filter_map(|key| id_of(key)).collect();
        for id in &ids {
            self.ears.hear(Told::Session { agent, id: *id });
        }
        Ok(ids)
    }

    fn opened(
        &self,
        agent: AgentId,
        id: &SessionIdHash,
        answer: Value,
    ) -> Result<Option<Session>, StoreError> {
        let Some(text) = read::<Option<Vec<u8>>>(answer)? else {
            return Ok(None);
        };
        let session =
            value::open(&text, agent, id, &*self.seal, self.calls.server_now(Bucket::of(agent)))?;
        Ok(Some(session).filter(|session| self.calls.now().mono < session.expires_at))
    }

    fn session_key(&self, agent: AgentId, id: &SessionIdHash) -> String {
        self.calls.keys.session(agent, id)
    }
}

/// The hash that the name of a session's key ends with.
fn id_of(key: &str) -> Option<SessionIdHash> {
    SessionIdHash::parse(key.rsplit(':').next()?).ok()
}

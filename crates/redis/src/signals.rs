//! What Redis tells of changes, read and passed on.
//!
//! Messages on the channel: `s <agent id> <session hash>` when a session was extended or ended,
//! `a <agent id>` when something about an agent has changed. Names of keys say the same where Redis
//! tracks them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use edgeward_store::shared::Told;
use edgeward_wire::{AgentId, SessionIdHash};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bucket::{Bucket, Keys};
use crate::hub::{Listener, Push};
use crate::near::Near;

/// Hears what servers tell: drops copies first, then passes it on.
pub(crate) struct Ears {
    pub(crate) near: Near,
    sessions: String,
    agents: String,
    /// In which buckets something may have been missed since they were last heard.
    missed: Mutex<BTreeSet<Bucket>>,
    listeners: Mutex<Vec<UnboundedSender<Told>>>,
    /// Whether anything was ever lost; to be read and set while `listeners` is held.
    has_lost: AtomicBool,
}

impl Ears {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self {
            near: Near::new(),
            sessions: keys.sessions(),
            agents: keys.agent_signals(),
            missed: Mutex::default(),
            listeners: Mutex::default(),
            has_lost: AtomicBool::new(false),
        }
    }

    pub(crate) fn told(&self) -> UnboundedReceiver<Told> {
        let (sender, receiver) = unbounded_channel();
        let mut listeners = self.listeners();
        // the loss that a start finds comes before anybody listens
        if self.has_lost.load(Ordering::SeqCst) && sender.send(Told::Lost).is_err() {
            return receiver;
        }
        listeners.push(sender);
        receiver
    }

    /// Passes on what has changed; copies of it are dropped before.
    pub(crate) fn hear(&self, told: Told) {
        if let Told::Session { agent, id } = told {
            self.near.invalidate(agent, &id);
        }
        self.listeners().retain(|listener| listener.send(told).is_ok());
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<UnboundedSender<Told>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missed(&self) -> MutexGuard<'_, BTreeSet<Bucket>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a key stands for: `<prefix>:s:{<bucket>}:<agent>:<hash>` or `<prefix>:a:{<bucket>}:<agent>`.
    fn of_key(&self, key: &[u8]) -> Option<Told> {
        let key = std::str::from_utf8(key).ok()?;
        if let Some(rest) = key.strip_prefix(&self.sessions) {
            let (agent, id) = after_tag(rest)?.split_once(':')?;
            return session(agent, id);
        }
        AgentId::parse(after_tag(key.strip_prefix(&self.agents)?)?).ok().map(Told::Agent)
    }
}

impl Listener for Ears {
    fn invalidated(&self, key: &[u8]) {
        if let Some(told) = self.of_key(key) {
            self.hear(told);
        }
    }

    fn opened(&self, buckets: &[Bucket], push: Push) {
        self.near.open(buckets, push);
        let missed_some = {
            let mut missed = self.missed();
            buckets.iter().filter(|bucket| missed.remove(bucket)).count() > 0
        };
        if missed_some {
            self.hear(Told::Everything);
        }
    }

    fn closed(&self, buckets: &[Bucket]) {
        self.near.close(buckets);
        self.missed().extend(buckets);
        self.hear(Told::Everything);
    }

    fn lost(&self) {
        let mut listeners = self.listeners();
        self.has_lost.store(true, Ordering::SeqCst);
        listeners.retain(|listener| listener.send(Told::Lost).is_ok());
    }

    fn published(&self, payload: &[u8]) {
        match read(payload) {
            Some(told) => self.hear(told),
            // Nobody of ours says so: better once too often than never.
            None => {
                tracing::warn!("a message of another form on the channel of changes");
                Bucket::all().for_each(|bucket| self.near.forget(bucket));
                self.hear(Told::Everything);
            }
        }
    }
}

/// The message that a session was extended or ended.
pub(crate) fn session_message(agent: AgentId, id: &SessionIdHash) -> String {
    format!("s {agent} {id}")
}

/// The message that something about an agent has changed.
pub(crate) fn agent_message(agent: AgentId) -> String {
    format!("a {agent}")
}

fn read(payload: &[u8]) -> Option<Told> {
    let text = std::str::from_utf8(payload).ok()?;
    if let Some(rest) = text.strip_prefix("s ") {
        let (agent, id) = rest.split_once(' ')?;
        return session(agent, id);
    }
    AgentId::parse(text.strip_prefix("a ")?).ok().map(Told::Agent)
}

fn session(agent: &str, id: &str) -> Option<Told> {
    let (agent, id) = (AgentId::parse(agent).ok()?, SessionIdHash::parse(id).ok()?);
    Some(Told::Session { agent, id })
}

/// What follows `{<bucket>}:`.
fn after_tag(rest: &str) -> Option<&str> {
    rest.split_once("}:").map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ears() -> (Ears, Keys, AgentId, SessionIdHash) {
        let keys = Keys::new("edgeward");
        let agent = AgentId::from_bytes([9; 16]);
        (Ears::new(&keys), keys, agent, SessionIdHash::from_bytes([7; 32]))
    }

    #[test]
    fn keys_and_messages_say_the_same() {
        let (ears, keys, agent, id) = ears();
        let mut told = ears.told();
        ears.invalidated(keys.session(agent, &id).as_bytes());
        ears.published(session_message(agent, &id).as_bytes());
        ears.invalidated(keys.agent_signal(agent).as_bytes());
        ears.published(agent_message(agent).as_bytes());
        let all: Vec<Told> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        let (one, of_agent) = (Told::Session { agent, id }, Told::Agent(agent));
        assert_eq!(all, [one, one, of_agent, of_agent]);
    }

    #[test]
    fn other_keys_say_nothing_and_odd_messages_everything() {
        let (ears, keys, agent, _) = ears();
        let mut told = ears.told();
        for key in [keys.rate(agent, None), keys.sessions_of(agent), "edgeward:s:{1}:x:y".into()] {
            ears.invalidated(key.as_bytes());
        }
        ears.invalidated(&[0xff, 0xfe]);
        assert!(told.try_recv().is_err());
        for message in [b"".as_slice(), b"s x y", b"a", b"\xff\xfe"] {
            ears.published(message);
            assert_eq!(told.try_recv(), Ok(Told::Everything));
        }
    }

    #[test]
    fn a_gap_tells_of_everything_at_once_and_again_when_it_ends() {
        let (ears, ..) = ears();
        let mut told = ears.told();
        let all: Vec<Bucket> = Bucket::all().collect();
        ears.opened(&all, Push::Tracking);
        assert!(told.try_recv().is_err(), "nothing was missed before the first opening");
        ears.closed(&all);
        assert_eq!(told.try_recv(), Ok(Told::Everything));
        ears.opened(&all, Push::Tracking);
        assert_eq!(told.try_recv(), Ok(Told::Everything));
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn a_loss_is_told_to_all_and_to_those_who_come_later() {
        let (ears, ..) = ears();
        let mut told = ears.told();
        assert!(told.try_recv().is_err());
        ears.lost();
        assert_eq!(told.try_recv(), Ok(Told::Lost));
        assert_eq!(ears.told().try_recv(), Ok(Told::Lost));
    }

    #[test]
    fn a_receiver_that_is_gone_is_forgotten() {
        let (ears, ..) = ears();
        drop(ears.told());
        ears.hear(Told::Everything);
        assert!(ears.listeners().is_empty());
    }
}

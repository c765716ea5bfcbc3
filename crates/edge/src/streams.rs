//! The registry of streams: who has one open, and the means to end it.
//!
//! A stream is registered first, and then what was proven is looked at once more; a revocation ends
//! the registered streams first and is seen by everybody who looks after it. So none can slip
//! between the two.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use edgeward_core::time::MonoMs;
use edgeward_wire::{AgentId, SessionIdHash};
use futures_util::task::AtomicWaker;
use tokio_util::sync::CancellationToken;

/// How long a stream that was cut may take to let go before its connection is closed over it, in
/// milliseconds. A reader that stands still does not notice the end of its body.
const LET_GO_MS: u64 = 300;

/// Why a stream was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CutReason {
    /// Its session was ended.
    SessionEnded = 1,
    /// Its session, or the stream without one, came to its end.
    Expired = 2,
    /// The agent was enrolled anew.
    Reenrolled = 3,
    /// The edge is stopping.
    Draining = 4,
    /// The agent was blocked, or retired.
    Blocked = 5,
    /// The node could not be sure any more that it knows of every block.
    Unconfirmed = 6,
}

/// What a stream polls to learn of its end.
#[derive(Debug, Default)]
pub struct Signal {
    reason: AtomicU8,
    waker: AtomicWaker,
}

impl Signal {
    fn cut(&self, reason: CutReason) {
        let _ = self.reason.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        self.waker.wake();
    }

    /// Whether the stream was cut.
    pub fn is_cut(&self) -> bool {
        self.reason.load(Ordering::Acquire) != 0
    }

    /// Ready once the stream was cut.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_cut() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.is_cut() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Whose stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The agent.
    pub agent: AgentId,
    /// Its epoch when the stream was let in.
    pub epoch: u64,
    /// The session that it lives on.
    pub session: Option<SessionIdHash>,
}

/// One open stream, as the registry sees it.
struct Open {
    holder: Holder,
    ends_at: MonoMs,
    cut_at: Option<MonoMs>,
    signal: Arc<Signal>,
    connection: CancellationToken,
}

/// Whose streams are meant.
enum Among {
    All,
    Agent(AgentId),
    Session(SessionIdHash),
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
    by_agent: HashMap<AgentId, Vec<u64>>,
    by_session: HashMap<SessionIdHash, Vec<u64>>,
}

/// All streams of this process.
#[derive(Default)]
pub struct Streams {
    table: Mutex<Table>,
}

/// A registered stream; dropping it makes room for another.
pub struct StreamLease {
    streams: Arc<Streams>,
    id: u64,
    agent: AgentId,
    /// What the stream polls.
    pub signal: Arc<Signal>,
}

/// As many streams as allowed are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Streams {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a stream that ends at `ends_at` if nothing moves that, on a connection that may be
    /// closed over it.
    ///
    /// # Errors
    /// When the agent has `cap` open; none of them gives way.
    pub fn register(
        self: &Arc<Self>,
        holder: Holder,
        ends_at: MonoMs,
        connection: CancellationToken,
        cap: u32,
    ) -> Result<StreamLease, TooMany> {
        let agent = holder.agent;
        let mut table = self.table();
        let id = table.next;
        let of_agent = table.by_agent.entry(agent).or_default();
        if of_agent.len() >= cap as usize {
            return Err(TooMany);
        }
        of_agent.push(id);
        if let Some(session) = holder.session {
            table.by_session.entry(session).or_default().push(id);
        }
        table.next += 1;
        let signal = Arc::new(Signal::default());
        let open = Open { holder, ends_at, cut_at: None, signal: Arc::clone(&signal), connection };
        table.open.insert(id, open);
        Ok(StreamLease { streams: Arc::clone(self), id, agent, signal })
    }

    /// Ends the streams of all, of an agent or of a session; how many.
    fn cut_where(
        &self,
        among: &Among,
        reason: CutReason,
        now: MonoMs,
        which: impl Fn(&Open) -> bool,
    ) -> usize {
        let mut table = self.table();
        let Table { open, by_agent, by_session, .. } = &mut *table;
        let mut cut = 0;
        let mut end = |open: &mut Open| {
            if open.cut_at.is_none() && which(open) {
                open.cut_at = Some(now);
                open.signal.cut(reason);
                cut += 1;
            }
        };
        let ids = match among {
            Among::All => {
                open.values_mut().for_each(end);
                return cut;
            }
            Among::Agent(agent) => by_agent.get(agent),
            Among::Session(session) => by_session.get(session),
        };
        for id in ids.into_iter().flatten() {
            if let Some(open) = open.get_mut(id) {
                end(open);
            }
        }
        cut
    }

    /// Ends the streams of a session; how many.
    pub fn cut_session(&self, session: &SessionIdHash, now: MonoMs) -> usize {
        self.cut_where(&Among::Session(*session), CutReason::SessionEnded, now, |_| true)
    }

    /// Ends the streams of an agent; how many.
    pub fn cut_agent(&self, agent: AgentId, reason: CutReason, now: MonoMs) -> usize {
        self.cut_where(&Among::Agent(agent), reason, now, |_| true)
    }

    /// Ends the streams of an agent that were let in at another epoch than this one; how many.
    pub fn cut_older(&self, agent: AgentId, epoch: u64, reason: CutReason, now: MonoMs) -> usize {
        self.cut_where(&Among::Agent(agent), reason, now, |open| open.holder.epoch != epoch)
    }

    /// Ends all streams; how many.
    pub fn cut_all(&self, reason: CutReason, now: MonoMs) -> usize {
        self.cut_where(&Among::All, reason, now, |_| true)
    }

    /// Who has a stream open that was not cut yet.
    pub fn holders(&self) -> Vec<Holder> {
        let table = self.table();
        table.open.values().filter(|open| open.cut_at.is_none()).map(|open| open.holder).collect()
    }

    /// The sessions that have a stream open, with their agents.
    pub fn sessions(&self) -> BTreeSet<(AgentId, SessionIdHash)> {
        let of_session = |holder: Holder| holder.session.map(|session| (holder.agent, session));
        self.holders().into_iter().filter_map(of_session).collect()
    }

    /// The sessions that have a stream open which ends by `until` as things stand.
    pub fn sessions_ending_by(&self, until: MonoMs) -> BTreeSet<(AgentId, SessionIdHash)> {
        let table = self.table();
        let near =
            table.open.values().filter(|open| open.cut_at.is_none() && open.ends_at <= until);
        let of_session = |open: &Open| open.holder.session.map(|id| (open.holder.agent, id));
        near.filter_map(of_session).collect()
    }

    /// Whether the session has a stream open.
    pub fn has_session(&self, session: &SessionIdHash) -> bool {
        self.table().by_session.contains_key(session)
    }

    /// Whether the agent has a stream open.
    pub fn has_agent(&self, agent: AgentId) -> bool {
        self.table().by_agent.contains_key(&agent)
    }

    /// Moves the end of a session's streams.
    pub fn extend(&self, session: &SessionIdHash, until: MonoMs) {
        let mut table = self.table();
        let Table { open, by_session, .. } = &mut *table;
        for id in by_session.get(session).into_iter().flatten() {
            if let Some(open) = open.get_mut(id) {
                open.ends_at = open.ends_at.max(until);
            }
        }
    }

    /// Ends what has come to its end, and closes connections over streams that were cut a while ago
    /// and have not let go. To be called several times a second.
    pub fn reap(&self, now: MonoMs) {
        self.cut_where(&Among::All, CutReason::Expired, now, |open| open.ends_at <= now);
        let table = self.table();
        for open in table.open.values() {
            if open.cut_at.is_some_and(|at| now.since(at) >= LET_GO_MS) {
                open.connection.cancel();
            }
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.table().open.len()
    }
}

impl StreamLease {
    /// When the stream ends as things stand.
    pub fn ends_at(&self) -> MonoMs {
        self.streams.table().open.get(&self.id).map_or(MonoMs(0), |open| open.ends_at)
    }
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({} open)", self.count())
    }
}

impl std::fmt::Debug for StreamLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamLease({} of {})", self.id, self.agent)
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        let mut table = self.streams.table();
        let Some(open) = table.open.remove(&self.id) else {
            return;
        };
        take_out(&mut table.by_agent, open.holder.agent, self.id);
        if let Some(session) = open.holder.session {
            take_out(&mut table.by_session, session, self.id);
        }
    }
}

/// Takes a stream out of an index.
fn take_out<K: Eq + Hash>(index: &mut HashMap<K, Vec<u64>>, key: K, id: u64) {
    if let Entry::Occupied(mut entry) = index.entry(key) {
        entry.get_mut().retain(|one| *one != id);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u8) -> SessionIdHash {
        SessionIdHash::from_bytes([n; 32])
    }

    fn agent(n: u8) -> AgentId {
        AgentId::from_bytes([n; 16])
    }

    fn holder(of: u8, in_session: Option<u8>) -> Holder {
        Holder { agent: agent(of), epoch: u64::from(of), session: in_session.map(session) }
    }

    fn open(streams: &Arc<Streams>, of: u8, in_session: u8, ends: u64) -> StreamLease {
        let token = CancellationToken::new();
        streams.register(holder(of, Some(in_session)), MonoMs(ends), token, 3).unwrap()
    }

    #[test]
    fn a_cap_refuses_the_new_one_and_keeps_the_old_ones() {
        let streams = Arc::new(Streams::default());
        let leases: Vec<_> = (0..3).map(|_| open(&streams, 1, 1, 99)).collect();
        let token = CancellationToken::new();
        assert_eq!(
            streams.register(holder(1, None), MonoMs(9), token.clone(), 3).err(),
            Some(TooMany)
        );
        assert!(streams.register(holder(2, None), MonoMs(9), token.clone(), 3).is_ok());
        assert!(leases.iter().all(|lease| !lease.signal.is_cut()));
        drop(leases);
        assert!(streams.register(holder(1, None), MonoMs(9), token, 3).is_ok());
        assert_eq!(streams.count(), 0);
    }

    #[test]
    fn ends_reach_the_right_streams() {
        let streams = Arc::new(Streams::default());
        let (one, two, other) =
            (open(&streams, 1, 1, 99), open(&streams, 1, 2, 99), open(&streams, 2, 3, 99));
        assert_eq!(streams.cut_session(&session(1), MonoMs(1)), 1);
        assert!(one.signal.is_cut() && !two.signal.is_cut());
        assert_eq!(streams.cut_agent(agent(1), CutReason::Reenrolled, MonoMs(1)), 1);
        assert!(two.signal.is_cut() && !other.signal.is_cut());
        assert_eq!(streams.cut_all(CutReason::Draining, MonoMs(1)), 1);
        assert!(other.signal.is_cut());
    }

    #[test]
    fn streams_of_an_older_epoch_end_and_those_of_this_one_stay() {
        let streams = Arc::new(Streams::default());
        let (old, new) = (open(&streams, 1, 1, 99), open(&streams, 2, 2, 99));
        assert_eq!(streams.cut_older(agent(1), 1, CutReason::Blocked, MonoMs(1)), 0);
        assert_eq!(streams.cut_older(agent(1), 2, CutReason::Blocked, MonoMs(1)), 1);
        assert!(old.signal.is_cut() && !new.signal.is_cut());
        assert_eq!(streams.sessions(), BTreeSet::from([(agent(2), session(2))]));
        assert!(streams.has_agent(agent(1)), "it has not let go yet");
        drop(old);
        assert!(!streams.has_agent(agent(1)) && streams.has_agent(agent(2)));
        assert!(!streams.has_session(&session(1)) && streams.has_session(&session(2)));
        drop(new);
        let table = streams.table();
        assert!(table.open.is_empty() && table.by_agent.is_empty() && table.by_session.is_empty());
    }

    #[test]
    fn a_stream_ends_with_its_time_unless_that_is_moved() {
        let streams = Arc::new(Streams::default());
        let (short, long) = (open(&streams, 1, 1, 100), open(&streams, 1, 2, 100));
        streams.extend(&session(2), MonoMs(200));
        streams.reap(MonoMs(99));
        assert!(!short.signal.is_cut());
        streams.reap(MonoMs(100));
        assert!(short.signal.is_cut() && !long.signal.is_cut());
        streams.reap(MonoMs(200));
        assert!(long.signal.is_cut());
    }

    #[test]
    fn a_connection_is_closed_over_a_stream_that_does_not_let_go() {
        let streams = Arc::new(Streams::default());
        let token = CancellationToken::new();
        let lease = streams.register(holder(1, Some(1)), MonoMs(9_999), token.clone(), 3).unwrap();
        streams.cut_session(&session(1), MonoMs(1_000));
        streams.reap(MonoMs(1_000 + LET_GO_MS - 1));
        assert!(!token.is_cancelled());
        streams.reap(MonoMs(1_000 + LET_GO_MS));
        assert!(token.is_cancelled());
        drop(lease);
    }
}

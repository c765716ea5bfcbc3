//! What the tasks that watch over servers, and those who use links, have in common.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use edgeward_core::time::{MonoMs, WallMs};
use tokio::sync::{Notify, watch};

use crate::bucket::{Bucket, Keys};
use crate::floor::Floors;
use crate::health::Health;
use crate::hub::{Listener, Push, are_all};
use crate::link::Link;
use crate::options::{HostPort, RedisOptions, Servers};
use crate::reading::Reading;
use crate::start::{FirstStart, StartError};

pub(crate) struct Shared {
    pub(crate) options: RedisOptions,
    pub(crate) keys: Keys,
    pub(crate) listener: Arc<dyn Listener>,
    pub(crate) floors: Floors,
    pub(crate) buckets: Vec<BucketState>,
    /// Told when somebody has found that the servers may be others than known.
    pub(crate) rediscover: Arc<Notify>,
    pub(crate) stopping: watch::Sender<bool>,
    first: FirstStart,
    /// The id of the store, once it is known.
    store_id: OnceLock<String>,
    /// Whether this node has given the store its id.
    pub(crate) made_id: AtomicBool,
    /// The open servers; to be changed under `order` alone.
    open: ArcSwap<Vec<OpenServer>>,
    /// Held while links are opened and closed, so that the listener is told in the order in which it happened.
    order: Mutex<()>,
    /// What is the matter, for a start that waits.
    trouble: watch::Sender<Option<StartError>>,
    /// How many buckets are open.
    ready: watch::Sender<usize>,
    /// How often a link was tried.
    pub(crate) serials: AtomicU64,
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct BucketState {
    link: ArcSwapOption<Link>,
    /// The identity that this process last renewed it with; from then on a missing epoch is a loss, and so
    /// is another identity.
    renewed_as: Mutex<Option<String>>,
    /// How many losses this node has seen, and for how many of them a floor of its own stands.
    losses: AtomicU64,
    settled: AtomicU64,
    /// What the clock of its last server showed.
    last_clock: Mutex<Option<Reading>>,
    pub(crate) renewals: Renewals,
}

/// Renewals of one bucket, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    count: Arc<AtomicU64>,
    pub(crate) lock: tokio::sync::Mutex<Done>,
}

/// Which renewals are done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    count: Arc<AtomicU64>,
    over: Option<u64>,
}

#[derive(Clone)]
struct OpenServer {
    link: Arc<Link>,
    push: Push,
    health: Arc<Health>,
    buckets: Vec<Bucket>,
}

impl BucketState {
    fn renewed_as(&self) -> MutexGuard<'_, Option<String>> {
        self.renewed_as.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_clock(&self) -> MutexGuard<'_, Option<Reading>> {
        self.last_clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.losses.load(Ordering::SeqCst) > self.settled.load(Ordering::SeqCst)
    }
}

impl Renewals {
    fn new() -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let done = Done { count: Arc::clone(&count), over: None };
        Self { count, lock: tokio::sync::Mutex::new(done) }
    }

    /// How many were done when this was asked.
    pub(crate) fn lock_count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

impl Done {
    /// Whether one was done since `asked`, over this link.
    pub(crate) fn covers(&self, asked: u64, link: u64) -> bool {
        self.count.load(Ordering::SeqCst) > asked && self.over == Some(link)
    }

    pub(crate) fn note(&mut self, link: u64) {
        self.over = Some(link);
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

impl Shared {
    pub(crate) fn new(
        options: RedisOptions,
        first: FirstStart,
        listener: Arc<dyn Listener>,
    ) -> Arc<Self> {
        let state = |_| BucketState {
            link: ArcSwapOption::empty(),
            renewed_as: Mutex::new(None),
            losses: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            last_clock: Mutex::new(None),
            renewals: Renewals::new(),
        };
        Arc::new(Self {
            keys: Keys::new(&options.prefix),
            options,
            listener,
            floors: Floors::none(),
            buckets: Bucket::all().map(state).collect(),
            rediscover: Arc::new(Notify::new()),
            stopping: watch::Sender::new(false),
            first,
            store_id: OnceLock::new(),
            made_id: AtomicBool::new(false),
            open: ArcSwap::default(),
            order: Mutex::new(()),
            trouble: watch::Sender::new(None),
            ready: watch::Sender::new(0),
            serials: AtomicU64::new(0),
        })
    }

    pub(crate) fn store_id(&self) -> Option<String> {
        self.store_id.get().cloned()
    }

    /// The id of this node's store, which is `found` when none is known yet.
    pub(crate) fn knows_store(&self, found: &str) -> String {
        self.store_id.get_or_init(|| found.to_owned()).clone()
    }

    /// A number for a link that is about to be.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn link(&self, bucket: Bucket) -> Option<Arc<Link>> {
        // One that has died a moment ago is still there until its task takes it away.
        let link = self.buckets.get(bucket.index())?.link.load_full();
        link.filter(|link| link.line.is_alive())
    }

    /// Whether the bucket is open over this link.
    pub(crate) fn is_open(&self, bucket: Bucket, serial: u64) -> bool {
        self.link(bucket).is_some_and(|link| link.serial == serial)
    }

    /// All open links.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.open.load().iter().map(|server| Arc::clone(&server.link)).collect()
    }

    /// What a bucket without an epoch means; `None` once it was renewed.
    pub(crate) fn first_of(&self, bucket: Bucket) -> Option<FirstStart> {
        let state = self.buckets.get(bucket.index())?;
        state.renewed_as().is_none().then_some(self.first)
    }

    /// It was renewed with this identity, and a floor stands for as many losses.
    pub(crate) fn was_renewed(&self, bucket: Bucket, identity: &str, losses: u64) {
        if let Some(state) = self.buckets.get(bucket.index()) {
            *state.renewed_as() = Some(identity.to_owned());
            state.settled.fetch_max(losses, Ordering::SeqCst);
        }
    }

    /// What was granted in these buckets may be forgotten. Whatever another node has made of it, this one
    /// sees to a floor above all that it knows, before it claims anything more.
    pub(crate) fn lost(&self, buckets: &[Bucket]) {
        let mut is_news = false;
        for state in buckets.iter().filter_map(|bucket| self.buckets.get(bucket.index())) {
            is_news |= !state.is_lost();
            state.losses.fetch_add(1, Ordering::SeqCst);
        }
        if is_news {
            self.listener.lost();
        }
    }

    /// Those of these buckets that this process has renewed with another identity are lost.
    pub(crate) fn moved(&self, buckets: &[Bucket], identity: &str) {
        let is_other = |bucket: &Bucket| {
            self.buckets.get(bucket.index()).is_some_and(|state| {
                state.renewed_as().as_deref().is_some_and(|renewed_as| renewed_as != identity)
            })
        };
        let moved: Vec<_> = buckets.iter().copied().filter(is_other).collect();
        self.lost(&moved);
    }

    pub(crate) fn losses(&self, bucket: Bucket) -> u64 {
        self.buckets.get(bucket.index()).map_or(0, |state| state.losses.load(Ordering::SeqCst))
    }

    /// Whether a loss was seen that no floor of this node stands for yet.
    pub(crate) fn is_lost(&self, bucket: Bucket) -> bool {
        self.buckets.get(bucket.index()).is_some_and(BucketState::is_lost)
    }

    /// What the clock of the bucket's last server shows now, if it was ever read.
    pub(crate) fn last_clock(&self, bucket: Bucket) -> Option<WallMs> {
        let reading = (*self.buckets.get(bucket.index())?.last_clock())?;
        Some(reading.at(self.options.clock.now().mono))
    }

    /// Those of these buckets that the clock was set for since it was last read are lost: nonces expire by
    /// it. What it showed between two readings nobody knows; the margin of `claim.lua` is for that.
    pub(crate) fn clock_read(&self, buckets: &[Bucket], reading: &Reading) {
        let was_set = |bucket: &Bucket| {
            let state = self.buckets.get(bucket.index());
            state.is_some_and(|state| state.last_clock().is_some_and(|last| last.was_set(reading)))
        };
        let lost: Vec<_> = buckets.iter().copied().filter(was_set).collect();
        if !lost.is_empty() {
            tracing::warn!(buckets = lost.len(), "the clock of Redis was set");
            self.lost(&lost);
        }
    }

    /// Notes what the clock of these buckets' server shows.
    pub(crate) fn measured(&self, buckets: &[Bucket], reading: Reading) {
        for state in buckets.iter().filter_map(|bucket| self.buckets.get(bucket.index())) {
            *state.last_clock() = Some(reading);
        }
    }

    /// These buckets can be used over this link.
    pub(crate) fn open(
        &self,
        link: &Arc<Link>,
        health: &Arc<Health>,
        buckets: &[Bucket],
        push: Push,
    ) {
        if buckets.is_empty() {
            return;
        }
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(|_, bucket| buckets.contains(&bucket));
        for state in buckets.iter().filter_map(|bucket| self.buckets.get(bucket.index())) {
            state.link.store(Some(Arc::clone(link)));
        }
        let mut open = Vec::clone(&self.open.load());
        match open.iter_mut().find(|server| server.link.serial == link.serial) {
            Some(server) => server.buckets.extend(buckets),
            None => open.push(OpenServer {
                link: Arc::clone(link),
                push,
                health: Arc::clone(health),
                buckets: buckets.to_vec(),
            }),
        }
        self.open.store(Arc::new(open));
        self.listener.opened(buckets, push);
        self.count();
    }

    /// These buckets, as far as they are open over this link, cannot be used any more.
    pub(crate) fn close(&self, serial: u64, buckets: &[Bucket]) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(|server, bucket| server.link.serial == serial && buckets.contains(&bucket));
        self.count();
    }

    /// Closes every bucket that is open at another place than this; the links end.
    pub(crate) fn close_elsewhere(&self, place_of: impl Fn(Bucket) -> Option<HostPort>) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(|server, bucket| place_of(bucket).as_ref() != Some(&server.link.address));
        self.count();
    }

    /// Everything on this link's server was deleted; it stays open.
    pub(crate) fn void(&self, serial: u64) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.open.load();
        if let Some(server) = open.iter().find(|server| server.link.serial == serial) {
            self.lost(&server.buckets);
            self.listener.closed(&server.buckets);
            self.listener.opened(&server.buckets, server.push);
        }
    }

    /// Takes open buckets away; under `order`.
    fn take(&self, which: impl Fn(&OpenServer, Bucket) -> bool) {
        let mut open = Vec::clone(&self.open.load());
        let mut closed = Vec::new();
        for server in &mut open {
            let (gone, kept): (Vec<_>, Vec<_>) =
                server.buckets.iter().copied().partition(|bucket| which(server, *bucket));
            closed.extend(gone);
            server.buckets = kept;
        }
        if closed.is_empty() {
            return;
        }
        open.retain(|server| !server.buckets.is_empty());
        for state in closed.iter().filter_map(|bucket| self.buckets.get(bucket.index())) {
            state.link.store(None);
        }
        self.open.store(Arc::new(open));
        self.listener.closed(&closed);
    }

    fn count(&self) {
        self.ready.send_replace(self.open.load().iter().map(|server| server.buckets.len()).sum());
    }

    pub(crate) fn confirmed_at(&self) -> Option<MonoMs> {
        let open = self.open.load();
        if !are_all(open.iter().map(|server| server.buckets.len()).sum()) {
            return None;
        }
        let mut oldest = None;
        for server in open.iter() {
            let at = server.health.confirmed_at()?;
            oldest = Some(oldest.map_or(at, |oldest: MonoMs| oldest.min(at)));
        }
        oldest
    }

    pub(crate) fn clock_ahead_ms(&self) -> Option<i64> {
        let open = self.open.load();
        open.iter()
            .map(|server| server.health.clock_ahead_ms())
            .max_by_key(|ahead| ahead.unsigned_abs())
    }

    /// Something is the matter with a server.
    pub(crate) fn report(&self, trouble: StartError) {
        self.trouble.send_if_modified(|last| {
            let new = last.as_ref() != Some(&trouble);
            if new {
                tracing::warn!(%trouble, "Redis cannot be used");
                *last = Some(trouble);
            }
            new
        });
    }

    /// Nothing is the matter any more.
    pub(crate) fn all_well(&self) {
        self.trouble.send_if_modified(|last| last.take().is_some());
    }

    /// Waits until every bucket is open.
    pub(crate) async fn started(&self) -> Result<(), StartError> {
        let mut ready = self.ready.subscribe();
        let mut trouble = self.trouble.subscribe();
        let alone = matches!(self.options.servers, Servers::Single(_));
        let lasting = trouble.wait_for(|it| {
            it.as_ref().is_some_and(|it| {
                it.is_lasting() || alone && matches!(it, StartError::NotPrimary { .. })
            })
        });
        tokio::select! {
            _ = ready.wait_for(|count| are_all(*count)) => Ok(()),
            it = lasting => Err(it.ok().and_then(|it| it.clone()).unwrap_or_else(|| self.what_is_missing())),
        }
    }

    /// Why not every bucket is open yet.
    pub(crate) fn what_is_missing(&self) -> StartError {
        let missing = self.buckets.iter().filter(|state| state.link.load().is_none()).count();
        self.trouble.borrow().clone().unwrap_or(StartError::NotCovered { missing })
    }
}

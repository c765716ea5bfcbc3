//! A JWK set at a URL: one fetch at a time and not often, stale rather than none, never too stale.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgeward_core::time::MonoMs;
use edgeward_core::verify::owner::OwnerKeys;
use tokio::sync::watch;

use super::{FetchJwks, OwnerKeysUnavailable, taken};
use crate::jwks::JwkSet;

/// The time from one fetch to the next that a token may cause, in milliseconds.
pub const REFETCH_MS: u64 = 30_000;
/// The age at which a set in use is fetched anew, in milliseconds.
pub const REFRESH_MS: u64 = 5 * 60_000;
/// The age at which a set is no longer used, in milliseconds.
pub const STALE_LIMIT_MS: u64 = 24 * 3_600_000;
/// How long one fetch may take, in milliseconds.
pub const FETCH_TIMEOUT_MS: u64 = 10_000;

#[derive(Default)]
struct State {
    /// The last good set and when its fetch began.
    good: Option<(Arc<OwnerKeys>, MonoMs)>,
    /// When the last fetch began.
    tried: Option<MonoMs>,
    /// Whether the last fetch that ended gave no set.
    failed: bool,
    in_flight: bool,
}

pub(super) struct UrlSource {
    fetch: Arc<dyn FetchJwks>,
    state: Mutex<State>,
    /// Counts fetches that have ended.
    ended: watch::Sender<u64>,
}

impl UrlSource {
    pub(super) fn new(fetch: Arc<dyn FetchJwks>) -> Self {
        Self { fetch, state: Mutex::default(), ended: watch::Sender::new(0) }
    }

    pub(super) async fn keys(
        self: &Arc<Self>,
        now: MonoMs,
    ) -> Result<Arc<OwnerKeys>, OwnerKeysUnavailable> {
        if let Some((keys, age)) = self.usable(now) {
            if age >= REFRESH_MS {
                // Whoever asks now is not kept waiting.
                drop(self.look(now));
            }
            return Ok(keys);
        }
        self.wait(self.look(now)).await;
        self.usable(now).map(|(keys, _)| keys).ok_or(OwnerKeysUnavailable)
    }

    pub(super) async fn keys_after_look(
        self: &Arc<Self>,
        now: MonoMs,
    ) -> Result<Arc<OwnerKeys>, OwnerKeysUnavailable> {
        self.wait(self.look(now)).await;
        if self.state().failed {
            return Err(OwnerKeysUnavailable);
        }
        self.usable(now).map(|(keys, _)| keys).ok_or(OwnerKeysUnavailable)
    }

    pub(super) fn age_ms(&self, now: MonoMs) -> Option<u64> {
        self.state().good.as_ref().map(|(_, at)| now.since(*at))
    }

    /// The last good set with its age, unless it is too old.
    fn usable(&self, now: MonoMs) -> Option<(Arc<OwnerKeys>, u64)> {
        let state = self.state();
        let (keys, at) = state.good.as_ref()?;
        let age = now.since(*at);
        (age < STALE_LIMIT_MS).then(|| (Arc::clone(keys), age))
    }

    /// Joins the fetch in flight, or begins one if the last began long enough ago. The fetch is a
    /// task of its own: a caller that hangs up does not break it off for the others.
    fn look(self: &Arc<Self>, now: MonoMs) -> Option<watch::Receiver<u64>> {
        let mut state = self.state();
        // Under the lock, so that the end of this very fetch cannot be missed.
        let ended = self.ended.subscribe();
        if state.in_flight {
            return Some(ended);
        }
        if state.tried.is_some_and(|at| now.since(at) < REFETCH_MS) {
            return None;
        }
        state.tried = Some(now);
        state.in_flight = true;
        drop(state);
        tokio::spawn(Flight { source: Arc::clone(self), outcome: None }.fly(now));
        Some(ended)
    }

    async fn wait(&self, fetch: Option<watch::Receiver<u64>>) {
        if let Some(mut ended) = fetch {
            // The sender lives in `self`, so this ends by a fetch that has ended.
            let _ = ended.changed().await;
        }
    }

    /// Follows the ends of fetches.
    #[cfg(test)]
    pub(super) fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One fetch. However it ends, by a panic too, its end is told when it is dropped.
struct Flight {
    source: Arc<UrlSource>,
    outcome: Option<(Arc<OwnerKeys>, MonoMs)>,
}

impl Flight {
    async fn fly(mut self, began: MonoMs) {
        let fetch = self.source.fetch.fetch();
        let answer = tokio::time::timeout(Duration::from_millis(FETCH_TIMEOUT_MS), fetch).await;
        let set = match answer {
            Ok(Ok(bytes)) => JwkSet::read(&bytes).map_err(|fault| fault.to_string()),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err("no answer in time".to_owned()),
        };
        match set {
            Ok(set) => self.outcome = Some((taken(set), began)),
            Err(fault) => tracing::warn!(%fault, "the owners' key set could not be fetched"),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        let mut state = self.source.state();
        state.in_flight = false;
        state.failed = outcome.is_none();
        if outcome.is_some() {
            state.good = outcome;
        }
        drop(state);
        self.source.ended.send_modify(|count| *count = count.wrapping_add(1));
    }
}

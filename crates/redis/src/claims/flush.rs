//! Tells Redis what was granted without asking it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgeward_store::StoreError;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Book;
use crate::bucket::Bucket;
use crate::rates::Batch;

/// How long a charge stays untold at most.
const EVERY: Duration = Duration::from_millis(50);
/// And how often at most Redis is told when it is urgent.
const URGENT: Duration = Duration::from_millis(5);
/// How many limiters one script charges.
const AT_ONCE: usize = 200;

pub(super) struct Flusher {
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Flusher {
    pub(super) fn start(book: Arc<Book>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(book, stopped));
        Self { running: Mutex::new(Some((stop, task))) }
    }

    /// Ends once Redis was told the rest, or could not be.
    pub(super) async fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, task)) = running {
            drop(stop);
            if let Err(error) = task.await {
                tracing::error!(%error, "charges of rates are no longer told");
            }
        }
    }
}

/// Until the flusher stops or is dropped.
async fn run(book: Arc<Book>, mut stopped: oneshot::Receiver<()>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0_usize;
    loop {
        let stopping = tokio::select! {
            _ = &mut stopped => true,
            _ = tick.tick() => {
                turn = turn.wrapping_add(1);
                book.ledger.sweep(turn, book.mono());
                false
            }
            () = book.ledger.hurried() => false,
        };
        book.flush().await;
        if stopping {
            return;
        }
        sleep(URGENT).await;
    }
}

impl Book {
    async fn flush(&self) {
        let mut buckets: BTreeMap<Bucket, Vec<Vec<Batch>>> = BTreeMap::new();
        for batch in self.ledger.due() {
            let scripts = buckets.entry(Bucket::of(batch.agent)).or_default();
            match scripts.last_mut().filter(|script| script.len() < AT_ONCE) {
                Some(script) => script.push(batch),
                None => scripts.push(vec![batch]),
            }
        }
        let scripts = buckets
            .into_iter()
            .flat_map(|(bucket, scripts)| scripts.into_iter().map(move |script| (bucket, script)));
        let told = join_all(scripts.map(|(bucket, script)| self.tell(bucket, script))).await;
        if let Some(error) = told.into_iter().find_map(Result::err) {
            tracing::debug!(%error, "charges of rates are told later");
        }
    }

    async fn tell(&self, bucket: Bucket, batches: Vec<Batch>) -> Result<(), StoreError> {
        let link = self.calls.hub.link(bucket)?;
        let renewals = self.calls.hub.renewals(bucket);
        match self.charge(bucket, &link, &batches, false).await? {
            Some(charged) => self.confirm(batches, &charged),
            None => {
                self.calls.hub.renew_lost(bucket, &link, renewals).await?;
            }
        }
        Ok(())
    }
}

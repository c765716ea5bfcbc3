//! The tasks beside requests. Each has a loop of its own, so that none waits for another: ends of
//! streams are promised within a second, and a database that is busy must not delay them. A process
//! whose upkeep has died stops in order; it must not run on without.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often streams are ended whose time has come.
const REAPING: Duration = Duration::from_millis(100);
/// How often refusals go to disk, and memory is swept.
const CHORES: Duration = Duration::from_secs(1);

/// What there is to do.
pub(crate) struct Upkeep<Reap, Flush, Sweep> {
    /// Ends streams whose time has come; waits for nothing.
    pub(crate) reap: Reap,
    /// Writes refusals to disk.
    pub(crate) flush: Flush,
    /// Sweeps memory; may keep its thread for a while.
    pub(crate) sweep: Sweep,
    /// What else there is.
    pub(crate) others: Vec<Other>,
}

/// A task that runs until it is dropped, by name.
pub(crate) struct Other {
    what: &'static str,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Other {
    pub(crate) fn new(what: &'static str, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { what, task: Box::pin(task) }
    }
}

impl<Reap, Flush, Flushing, Sweep> Upkeep<Reap, Flush, Sweep>
where
    Reap: Fn() + Send + 'static,
    Flush: Fn() -> Flushing + Send + 'static,
    Flushing: Future<Output = ()> + Send + 'static,
    Sweep: Fn() + Clone + Send + 'static,
{
    /// Does it until `stop`. The token that it answers is cancelled when a task has ended before that.
    pub(crate) fn spawn(self, stop: &CancellationToken) -> CancellationToken {
        let broken = CancellationToken::new();
        let Self { reap, flush, sweep, others } = self;
        for Other { what, task } in others {
            let ended = stop.clone();
            watch(what, stop, &broken, async move {
                tokio::select! {
                    () = task => {}
                    () = ended.cancelled() => {}
                }
            });
        }
        let reaping = each(REAPING, stop.clone(), move || {
            reap();
            std::future::ready(())
        });
        watch("ends of streams", stop, &broken, reaping);
        watch("records of refusals", stop, &broken, each(CHORES, stop.clone(), flush));
        let sweeping = each(CHORES, stop.clone(), move || on_a_thread(sweep.clone()));
        watch("sweeping", stop, &broken, sweeping);
        broken
    }
}

/// Acts at every beat. What it has begun it ends, also when it is told to stop.
async fn each<Acting: Future<Output = ()>>(
    period: Duration,
    stop: CancellationToken,
    act: impl Fn() -> Acting,
) {
    let mut beat = tokio::time::interval(period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = stop.cancelled() => return,
        }
        act().await;
    }
}

/// A thread for what would hold up a worker of the runtime. A panic goes on in the caller.
async fn on_a_thread(act: impl Fn() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(act).await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

fn watch(
    what: &'static str,
    stop: &CancellationToken,
    broken: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let (stop, broken, running) = (stop.clone(), broken.clone(), tokio::spawn(task));
    tokio::spawn(async move {
        match running.await {
            Ok(()) if stop.is_cancelled() => {}
            // The runtime is going down, and this task with it.
            Err(error) if error.is_cancelled() => {}
            Ok(()) | Err(_) => {
                tracing::error!(what, "a task of the upkeep has died: the edge must stop");
                broken.cancel();
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use edgeward_core::time::{MonoMs, WallMs};
    use edgeward_store::Clock as _;
    use edgeward_store::clock::ManualClock;
    use edgeward_wire::AgentId;

    use super::*;
    use crate::streams::{Holder, Streams};

    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn streams_end_in_time_while_the_database_stands_still() {
        let (streams, clock) = (Arc::new(Streams::default()), ManualClock::at(WallMs(1_000)));
        let ends_at: MonoMs = clock.now().mono.plus(10_000);
        let holder = Holder { agent: AgentId::from_bytes([1; 16]), epoch: 1, session: None };
        let lease = streams.register(holder, ends_at, CancellationToken::new(), 1).unwrap();
        let began = Arc::new(AtomicUsize::new(0));
        let (flushes, now) = (Arc::clone(&began), clock.clone());
        let (stop, reaped) = (CancellationToken::new(), Arc::clone(&streams));
        let broken = Upkeep {
            others: Vec::new(),
            reap: move || reaped.reap(now.now().mono),
            flush: move || {
                flushes.fetch_add(1, Ordering::SeqCst);
                pending()
            },
            sweep: || {},
        }
        .spawn(&stop);
        tokio::time::sleep(3 * CHORES).await;
        assert_eq!(began.load(Ordering::SeqCst), 1, "the first one has not come to its end");
        assert!(!lease.signal.is_cut());
        clock.advance(10_000);
        let cut = std::future::poll_fn(|cx| lease.signal.poll_cut(cx));
        tokio::time::timeout(5 * REAPING, cut).await.expect("cut");
        assert!(!broken.is_cancelled());
    }

    #[tokio::test]
    async fn upkeep_that_dies_is_told_of() {
        for dying in 0..4 {
            let stop = CancellationToken::new();
            let die = move |which: usize| assert_ne!(which, dying, "this one dies");
            let broken = Upkeep {
                others: vec![
                    Other::new("one that lives", pending()),
                    Other::new("one more", async move {
                        die(0);
                        pending().await
                    }),
                ],
                reap: move || die(1),
                flush: move || {
                    die(2);
                    ready(())
                },
                sweep: move || die(3),
            }
            .spawn(&stop);
            tokio::time::timeout(DEADLINE, broken.cancelled()).await.expect("told of");
            stop.cancel();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn upkeep_that_is_told_to_stop_is_not_broken() {
        let stop = CancellationToken::new();
        let broken = Upkeep {
            others: vec![Other::new("one", pending())],
            reap: || {},
            flush: || ready(()),
            sweep: || {},
        }
        .spawn(&stop);
        tokio::time::sleep(2 * CHORES).await;
        stop.cancel();
        tokio::time::sleep(2 * CHORES).await;
        assert!(!broken.is_cancelled());
    }
}

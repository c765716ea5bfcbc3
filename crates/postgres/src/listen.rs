//! Notices of changes, on a connection of its own: `LISTEN` belongs to a session, which a pooler in
//! transaction mode does not have. It is an ear and nothing more: whoever misses a notice finds the
//! change by asking.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgListener};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// After a lost connection the first wait, which doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A connection on which nothing has come for so long is asked whether it still stands.
const SILENCE: Duration = Duration::from_secs(5);

/// The task that listens, until this is dropped.
pub(crate) struct Listener(JoinHandle<()>);

impl Listener {
    pub(crate) fn start(
        at: PgConnectOptions,
        channel: String,
        budget: Duration,
        stirred: Arc<Notify>,
    ) -> Self {
        Self(tokio::spawn(listen(at, channel, budget, stirred)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(at: PgConnectOptions, channel: String, budget: Duration, stirred: Arc<Notify>) {
    let mut wait = FIRST_WAIT;
    loop {
        match tokio::time::timeout(budget, connect(&at, &channel, budget)).await {
            Ok(Ok(listener)) => {
                wait = FIRST_WAIT;
                // Whatever was told before is not heard any more.
                stirred.notify_one();
                let error = hear(listener, budget, &stirred).await;
                tracing::warn!(channel, %error, "notices of changes are lost; connecting again");
            }
            Ok(Err(error)) => tracing::warn!(channel, %error, "no notices of changes"),
            Err(_) => tracing::warn!(channel, "no notices of changes: no answer in time"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn connect(
    at: &PgConnectOptions,
    channel: &str,
    budget: Duration,
) -> Result<PgListener, sqlx::Error> {
    let pool = PoolOptions::new()
        .max_connections(1)
        .acquire_timeout(budget)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(at.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    Ok(listener)
}

/// Passes notices on until the connection is lost.
async fn hear(mut listener: PgListener, budget: Duration, stirred: &Notify) -> sqlx::Error {
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => stirred.notify_one(),
            Ok(Ok(None)) => return sqlx::Error::WorkerCrashed,
            Ok(Err(error)) => return error,
            Err(_) => match tokio::time::timeout(budget, listener.execute("SELECT 1")).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error,
                Err(_) => return sqlx::Error::PoolTimedOut,
            },
        }
    }
}

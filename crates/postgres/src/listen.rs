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

/// A setting that a session has from its start, if it is one. Through a pooler it does not arrive:
/// there `LISTEN` would make notices arrive at other callers, who do not expect any.
const OWN_SESSION: &str = "edgeward.own_session";

/// The task that listens, until this is dropped.
pub(crate) struct Listener(JoinHandle<()>);

impl Listener {
    pub(crate) fn start(
        at: PgConnectOptions,
        channel: String,
        budget: Duration,
        stirred: Arc<Notify>,
    ) -> Self {
        let at = at.options([(OWN_SESSION, "yes")]);
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
    let mut said = String::new();
    loop {
        let why = match tokio::time::timeout(budget, connect(&at, &channel, budget)).await {
            Ok(Ok(listener)) => {
                tracing::info!(channel, "hears notices of changes");
                wait = FIRST_WAIT;
                // Whatever was told before was not heard.
                stirred.notify_one();
                hear(listener, budget, &stirred).await.to_string()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if said != why {
            tracing::warn!(channel, why, "no notices of changes: they are found by asking");
            said = why;
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
    let own: bool =
        sqlx::query_scalar("SELECT current_setting($1, true) IS NOT DISTINCT FROM 'yes'")
            .bind(OWN_SESSION)
            .persistent(false)
            .fetch_one(&mut listener)
            .await?;
    if !own {
        let why = "a pooler lies between; give a URL of the server itself for notices";
        return Err(sqlx::Error::Configuration(why.into()));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A pooler that swallows what it does not know of a start looks like this.
    #[tokio::test]
    async fn a_session_that_did_not_get_its_setting_is_not_listened_on() {
        let url = edgeward_services::Postgres::shared().unwrap().url();
        let at: PgConnectOptions = url.parse().unwrap();
        let budget = Duration::from_secs(60);
        let refused = connect(&at, "channel", budget).await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("a pooler lies between"), "{refused}");
        assert!(connect(&at.options([(OWN_SESSION, "yes")]), "channel", budget).await.is_ok());
    }
}

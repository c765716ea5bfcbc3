//! The PostgreSQL and the Redis of the demo: started from this machine's programs, gone with it.

use std::sync::Arc;

use edgeward_postgres::{DatabaseUrl, SchemaName, migrate};
use edgeward_services::{Postgres, Redis, RedisOptions, ServiceError};
use zeroize::Zeroizing;

use crate::demo::config::random_hex;

/// Who edges are in the database.
const ROLE: &str = "edgeward_edge";
const DATABASE: &str = "edgeward";
/// Of the tables of the schema how many there are, and how many of them force row-level security; then
/// whether the role can pass it by or make itself more than it is.
const JUDGE: &str = "\
SELECT count(*), count(*) FILTER (WHERE relrowsecurity AND relforcerowsecurity)
  FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'cogo'::regnamespace;
SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb FROM pg_roles
  WHERE rolname = 'edgeward_edge';";

/// Both of them.
pub(super) struct Services {
    postgres: Arc<Postgres>,
    redis: Arc<Redis>,
}

impl Services {
    /// Starts both, in folders of their own.
    pub(super) async fn start() -> anyhow::Result<(Self, String)> {
        let redis = blocking(|| Redis::start(RedisOptions::default())).await?;
        let postgres = blocking(Postgres::start).await?;
        let found = format!("PostgreSQL at {}, Redis at {}", postgres.address(), redis.address());
        Ok((Self { postgres: Arc::new(postgres), redis: Arc::new(redis) }, found))
    }

    /// Makes the tables, and gives edges a password; the URL with it.
    pub(super) async fn migrate(&self) -> anyhow::Result<(Zeroizing<String>, String)> {
        let postgres = Arc::clone(&self.postgres);
        let superuser = blocking(move || postgres.create_database(DATABASE)).await?;
        migrate(&DatabaseUrl::new(superuser.as_str()), &SchemaName::default()).await?;
        let password = random_hex()?;
        let alter = Zeroizing::new(format!("ALTER ROLE {ROLE} PASSWORD '{}';\n", *password));
        let postgres = Arc::clone(&self.postgres);
        let judged =
            blocking(move || postgres.psql(&superuser, &format!("{}{JUDGE}", *alter))).await?;
        let tables = judge(&judged)?;
        let url = self.postgres.url_for(ROLE, &password, DATABASE);
        let found = format!("{tables} tables, row-level security forced on each and for {ROLE}");
        Ok((url.into(), found))
    }

    pub(super) fn redis_url(&self) -> String {
        self.redis.url()
    }

    /// SIGKILL for Redis, which keeps nothing.
    pub(super) async fn kill_redis(&self) -> anyhow::Result<()> {
        let redis = Arc::clone(&self.redis);
        blocking(move || redis.kill()).await
    }

    /// Starts Redis again, empty; it answers then.
    pub(super) async fn restart_redis(&self) -> anyhow::Result<()> {
        let redis = Arc::clone(&self.redis);
        blocking(move || redis.restart()).await
    }

    /// Ends both and removes their folders.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        Ok(tokio::task::spawn_blocking(move || drop(self)).await?)
    }
}

/// How many tables there are, all of them protected.
fn judge(judged: &str) -> anyhow::Result<u32> {
    let Some((tables, is_more)) = judged.split_once('\n') else {
        anyhow::bail!("there is no role {ROLE}: {judged}");
    };
    let (all, forced) = tables.split_once('|').unwrap_or_default();
    let all: u32 = all.parse()?;
    anyhow::ensure!(all > 0 && forced == all.to_string(), "tables, protected ones: {tables}");
    anyhow::ensure!(is_more == "f", "{ROLE} could pass row-level security by");
    Ok(all)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_without_protection_or_a_role_that_passes_it_by_is_a_fault() {
        assert_eq!(judge("9|9\nf").unwrap(), 9);
        for wrong in ["9|8\nf", "0|0\nf", "9|9\nt", "9|9", ""] {
            assert!(judge(wrong).is_err(), "{wrong:?}");
        }
    }
}

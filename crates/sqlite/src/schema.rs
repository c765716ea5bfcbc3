//! The tables, and how an older file comes to have them. Changes are additive only, so that the
//! release before still runs.

use edgeward_store::StoreError;
use sqlx::sqlite::SqlitePool;

use crate::error::{corrupt, failed};

/// Marks a file as ours in its header (`PRAGMA application_id`): "EdgW".
const APPLICATION_ID: i64 = 0x4564_6757;

/// Each step from one version (`PRAGMA user_version`) to the next. Never change one that was
/// released; add another.
const STEPS: [&str; 3] =
    [include_str!("schema/1.sql"), include_str!("schema/2.sql"), include_str!("schema/3.sql")];

/// Brings the file to the newest version, each step in a transaction of its own with its number.
pub(crate) async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let version = number("PRAGMA user_version", &mut tx).await?;
    let application = number("PRAGMA application_id", &mut tx).await?;
    let tables = number("SELECT count(*) FROM sqlite_schema", &mut tx).await?;
    if application != APPLICATION_ID && (application != 0 || version != 0 || tables != 0) {
        return Err(corrupt("a database of another program"));
    }
    let newest = STEPS.len();
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > newest {
        return Err(corrupt(format!(
            "written by a newer version of edgeward: its tables have version {version}, this one \
             knows {newest}; use the newer version, or a copy from before"
        )));
    }
    for step in STEPS.iter().skip(version) {
        sqlx::raw_sql(*step).execute(&mut *tx).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}

async fn number(
    sql: &'static str,
    tx: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
) -> Result<i64, StoreError> {
    sqlx::query_scalar(sql).fetch_one(&mut **tx).await.map_err(failed)
}

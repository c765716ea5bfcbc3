//! The tables, and how a database comes to have them. Changes are additive only, so that the release
//! before still runs.

use std::fmt;
use std::time::Duration;

use edgeward_store::StoreError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::error::{corrupt, failed, unavailable};
use crate::options::DatabaseUrl;

/// What every run begins with.
const FIRST: &str = include_str!("schema/0.sql");

/// Each step from one version to the next. Never change one that was released; add another.
const STEPS: &[Step] = &[
    Step { version: 1, name: "first", least_version: 1, sql: include_str!("schema/1.sql") },
    Step { version: 2, name: "apart", least_version: 1, sql: include_str!("schema/2.sql") },
];

/// The newest version that this program knows.
pub(crate) const NEWEST: i32 = 2;

struct Step {
    version: i32,
    name: &'static str,
    /// The oldest version that a program may know and still use what this step leaves.
    least_version: i32,
    sql: &'static str,
}

/// The name of a schema: 1 to 40 of `a-z`, `0-9` and `_`, beginning with a letter, and not one of
/// Postgres's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName(String);

impl SchemaName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it has another form.
    pub fn parse(name: &str) -> Result<Self, StoreError> {
        let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
        let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let own = name.starts_with("pg_") || name == "information_schema" || name == "public";
        if begins && rest && !own && name.len() <= 40 {
            Ok(Self(name.to_owned()))
        } else {
            Err(unavailable(
                "a schema's name is 1 to 40 of a-z, 0-9 and _, begins with a letter, and is not \
                 public or one of Postgres's own",
            ))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As an identifier.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// Where its changes are told of.
    pub(crate) fn channel(&self) -> String {
        format!("{}_changes", self.0)
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("cogo".to_owned())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// From 1.
    pub version: u32,
    /// What it is called.
    pub name: String,
}

/// Brings a database to the newest version, in one transaction, and says which steps that took; none
/// when there was nothing to do. Any number may run at once. The role must be a superuser, or
/// `edgeward_migrate`, or one that may create roles and, in this database, schemas.
///
/// # Errors
/// [`StoreError::Unavailable`] when the database cannot be reached or refuses a statement;
/// [`StoreError::Corrupt`] when a newer version has been there that this one cannot follow. Nothing
/// has changed then.
pub async fn migrate(url: &DatabaseUrl, schema: &SchemaName) -> Result<Vec<Applied>, StoreError> {
    let mut connection = connect(&url.connect_options()?).await?;
    let applied = migrate_by(&mut connection, schema).await;
    let _ = connection.close().await;
    applied
}

/// The same as SQL for `psql` or any tool that applies SQL. It asks what is there already: applied
/// twice, or after [`migrate`], it does nothing.
#[must_use]
pub fn migrations_sql(schema: &SchemaName) -> String {
    format!(
        "-- The tables of edgeward in schema {schema}, up to version {NEWEST}.\n\
         -- Safe to apply again; what is there already stays as it is.\n\n\
         BEGIN;\n\n{}\n{}\nCOMMIT;\n",
        lock(schema),
        body(schema)
    )
}

async fn migrate_by(
    connection: &mut PgConnection,
    schema: &SchemaName,
) -> Result<Vec<Applied>, StoreError> {
    let mut tx =
        connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(failed)?;
    run(&mut tx, lock(schema)).await?;
    let before = version(&mut tx, schema).await?;
    run(&mut tx, body(schema)).await?;
    tx.commit().await.map_err(failed)?;
    let applied = STEPS.iter().filter(|step| step.version > before);
    Ok(applied
        .map(|step| Applied { version: step.version.unsigned_abs(), name: step.name.to_owned() })
        .collect())
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), StoreError> {
    match sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("EW001") => {
            Err(corrupt(error.message()))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The version that is there; 0 for none.
async fn version(connection: &mut PgConnection, schema: &SchemaName) -> Result<i32, StoreError> {
    if !is_there(connection, schema).await? {
        return Ok(0);
    }
    let sql = format!("SELECT coalesce(max(version), 0) FROM {}.migrations", schema.quoted());
    sqlx::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(failed)
}

async fn is_there(connection: &mut PgConnection, schema: &SchemaName) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("{}.migrations", schema.quoted()))
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(failed)
}

/// Whether the tables are there, in a version that this program can use.
pub(crate) async fn verify(
    connection: &mut PgConnection,
    schema: &SchemaName,
) -> Result<(), StoreError> {
    if !is_there(connection, schema).await? {
        return Err(unavailable(format!(
            "schema {schema} has no tables of edgeward: run `edgeward migrate`"
        )));
    }
    let sql = format!(
        "SELECT coalesce(max(version), 0), coalesce(max(least_version), 0) FROM {}.migrations",
        schema.quoted()
    );
    let (version, least): (i32, i32) = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    if version < NEWEST {
        return Err(unavailable(format!(
            "the tables in schema {schema} have version {version}, this program needs {NEWEST}: \
             run `edgeward migrate`"
        )));
    }
    if least > NEWEST {
        return Err(corrupt(format!(
            "the tables in schema {schema} were written by a newer version of edgeward: they need \
             version {least}, this one knows {NEWEST}; use the newer version"
        )));
    }
    Ok(())
}

/// How long a connection may take where nobody else bounds it.
const CONNECT: Duration = Duration::from_secs(10);

pub(crate) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    match tokio::time::timeout(CONNECT, options.connect()).await {
        Ok(connected) => connected.map_err(failed),
        Err(_) => Err(unavailable("the database did not answer in time")),
    }
}

/// Whoever migrates waits here for whoever does so already.
fn lock(schema: &SchemaName) -> String {
    format!(
        "SET LOCAL client_min_messages = warning;\n\
         DO $edgeward$ BEGIN PERFORM pg_advisory_xact_lock(hashtextextended('{schema}.migrate', 0)); \
         END $edgeward$;\n"
    )
}

/// All steps, each behind a look at whether it was taken.
fn body(schema: &SchemaName) -> String {
    let mut sql = fill(FIRST, schema);
    for Step { version, name, least_version, sql: step } in STEPS {
        let step = fill(step, schema);
        let migrations = format!("{}.migrations", schema.quoted());
        sql.push_str(&format!(
            "\nDO $edgeward$\nBEGIN\n\
             IF EXISTS (SELECT FROM {migrations} WHERE version = {version}) THEN RETURN; END IF;\n\n\
             {step}\n\
             INSERT INTO {migrations} (version, name, least_version)\n    \
             VALUES ({version}, '{name}', {least_version});\n\
             END\n$edgeward$;\n"
        ));
    }
    sql
}

fn fill(sql: &str, schema: &SchemaName) -> String {
    sql.replace("@schema@", &schema.quoted())
        .replace("@name@", &format!("'{schema}'"))
        .replace("@migrations@", &format!("'{}.migrations'", schema.quoted()))
        .replace("@newest@", &NEWEST.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_a_plain_name() {
        for good in ["cogo", "a", "edge_2"] {
            assert!(SchemaName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(41);
        for bad in [
            "",
            "1a",
            "A",
            "a-b",
            "a\"b",
            "a'b",
            "a b",
            "pg_x",
            "public",
            "information_schema",
            &long,
        ] {
            assert!(SchemaName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn steps_are_numbered_from_one() {
        let versions: Vec<_> = STEPS.iter().map(|step| step.version).collect();
        assert_eq!(versions, (1..=NEWEST).collect::<Vec<_>>());
        assert!(!body(&SchemaName::default()).contains('@'), "everything is filled in");
    }
}

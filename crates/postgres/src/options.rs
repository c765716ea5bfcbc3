//! How the database is reached.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use edgeward_store::StoreError;
use edgeward_store::fleet::NodeRow;
use sqlx::postgres::PgConnectOptions;
use zeroize::Zeroizing;

use crate::error::unavailable;
use crate::schema::SchemaName;

/// A `postgres://` URL, which may hold a password: it is never printed, and wiped when dropped.
#[derive(Clone)]
pub struct DatabaseUrl(Zeroizing<String>);

impl DatabaseUrl {
    /// Takes a URL; whether it is one is seen when it is used.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(Zeroizing::new(url.into()))
    }

    /// Nothing of a session is kept between transactions, so that a pooler may lie between.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        if !self.0.starts_with("postgres://") && !self.0.starts_with("postgresql://") {
            return Err(unavailable("the database's URL does not begin with postgres://"));
        }
        // The parser's own words may repeat what it was given.
        let options = PgConnectOptions::from_str(&self.0)
            .map_err(|_| unavailable("the database's URL cannot be read"))?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("edgeward"),
        };
        // Poolers refuse what they do not know of a start.
        Ok(options.statement_cache_capacity(0).extra_float_digits(None))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

/// Where notices of changes come from.
#[derive(Debug, Clone)]
pub enum Listen {
    /// From the database's own URL.
    Database,
    /// From another one, that reaches the server itself: a pooler in transaction mode passes no
    /// notices on.
    At(DatabaseUrl),
    /// From nowhere: changes are found by asking alone.
    Never,
}

/// What a [`PostgresStore`](crate::PostgresStore) is opened with.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The database, as the role that a node runs as (`edgeward_edge` or a member of it).
    pub url: DatabaseUrl,
    /// Where notices of changes come from.
    pub listen: Listen,
    /// Where the tables are.
    pub schema: SchemaName,
    /// Connections at most; at least 1. Beside them there are 3 for what must not wait behind other calls,
    /// and one for notices.
    pub pool_size: u32,
    /// How long the first connection may take, at [`open`](crate::PostgresStore::open).
    pub connect_timeout: Duration,
    /// How long a call may take in all: a connection, its statements and their locks.
    pub budget: Duration,
    /// Whether a role that row-level security does not bind is refused, not only warned of.
    pub strict: bool,
    /// The node that opens it: the one that joins, beats and leaves by it.
    pub node: NodeRow,
}

impl PostgresOptions {
    /// Schema `cogo`, 10 connections, 5 s to connect, 1 s a call, notices by the same URL, not strict.
    #[must_use]
    pub fn new(url: DatabaseUrl, node: NodeRow) -> Self {
        Self {
            url,
            listen: Listen::Database,
            schema: SchemaName::default(),
            pool_size: 10,
            connect_timeout: Duration::from_secs(5),
            budget: Duration::from_secs(1),
            strict: false,
            node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_said() {
        for url in [
            "postgres://edge:s3cret@127.0.0.1:notaport/db",
            "mysql://edge:s3cret@127.0.0.1/db",
            "s3cret",
            "postgres://edge:s3cret@127.0.0.1/db?sslmode=s3cret",
        ] {
            let url = DatabaseUrl::new(url);
            let error = url.connect_options().expect_err("no such URL");
            assert!(!format!("{error} {error:?} {url:?}").contains("s3cret"), "{error}");
        }
        let good = DatabaseUrl::new("postgres://edge:s3cret@127.0.0.1/db");
        assert!(good.connect_options().is_ok());
        assert!(!format!("{good:?}").contains("s3cret"));
    }
}

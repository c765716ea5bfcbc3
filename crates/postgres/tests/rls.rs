//! What each role may see and do, for every table that there is: one that is added without being
//! written down here fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use edgeward_postgres::{DatabaseUrl, SchemaName, migrate};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use support::{Database, EDGE, PASSWORD};

const AGENT_1: &str = "00000000-0000-7000-8000-0000000000a1";
const AGENT_2: &str = "00000000-0000-7000-8000-0000000000a2";
const AGENT_B: &str = "00000000-0000-7000-8000-0000000000b1";

/// What `PostgREST` logs in as; it may become `edgeward_agent` and is nothing by itself.
const AUTHENTICATOR: &str = "authenticator";

/// What the roles may do with a table. Whatever is not listed is refused.
struct Table {
    name: &'static str,
    edge: &'static [&'static str],
    /// Columns that a node may change.
    edge_updates: &'static [&'static str],
    /// Columns that claims may read.
    claims_read: &'static [&'static str],
    /// The column that says whose a row is.
    whose: Option<&'static str>,
}

const fn closed(name: &'static str) -> Table {
    Table { name, edge: &[], edge_updates: &[], claims_read: &[], whose: None }
}

const TABLES: &[Table] = &[
    Table {
        edge: &["SELECT", "INSERT"],
        edge_updates: &[
            "alias",
            "platform",
            "public_key",
            "status",
            "epoch",
            "allowed_cidrs",
            "scopes",
            "legacy",
            "metadata",
        ],
        claims_read: &[
            "id",
            "user_id",
            "alias",
            "platform",
            "public_key",
            "status",
            "epoch",
            "last_seen_at",
            "allowed_cidrs",
            "scopes",
            "rate",
            "legacy",
            "metadata",
            "created_at",
        ],
        whose: Some("id"),
        ..closed("agent_devices")
    },
    Table {
        edge: &["SELECT", "INSERT"],
        edge_updates: &["status"],
        claims_read: &[
            "agent_id",
            "version",
            "status",
            "activated_at",
            "last_used_at",
            "grace_until",
            "expires_at",
        ],
        whose: Some("agent_id"),
        ..closed("agent_tokens")
    },
    Table {
        edge: &["SELECT", "INSERT"],
        claims_read: &["id", "occurred_at", "type", "agent_id", "owner_user_id", "trace_id"],
        whose: Some("agent_id"),
        ..closed("bus_events")
    },
    Table {
        edge: &["SELECT", "INSERT"],
        edge_updates: &["wrong_completions", "used_at"],
        ..closed("enrollments")
    },
    Table { edge: &["SELECT", "INSERT"], ..closed("signing_keys") },
    Table { edge: &["SELECT", "INSERT"], ..closed("data_keys") },
    Table {
        edge: &["SELECT", "INSERT", "DELETE"],
        edge_updates: &[
            "name",
            "incarnation",
            "shares",
            "version",
            "joined_at",
            "beat_at",
            "store",
        ],
        ..closed("nodes")
    },
    Table {
        edge: &["SELECT"],
        edge_updates: &["holder", "mark", "snapshot", "shared"],
        ..closed("run_state")
    },
    Table { edge: &["SELECT", "INSERT", "DELETE"], ..closed("changes") },
    Table { edge: &["SELECT"], ..closed("migrations") },
    closed("operators"),
    closed("policies"),
    closed("webhooks"),
];

/// Two owners and three agents, and rows in every table.
async fn planted() -> Database {
    let database = Database::empty();
    let role = format!(
        "DO $$ BEGIN
             CREATE ROLE {AUTHENTICATOR} LOGIN NOINHERIT PASSWORD '{PASSWORD}';
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    database.sql(&role);
    migrate(&DatabaseUrl::new(&database.admin), &SchemaName::default()).await.unwrap();
    static ONCE: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| drop(database.sql(&format!("ALTER ROLE {EDGE} PASSWORD '{PASSWORD}'"))));
    for (agent, owner) in [(AGENT_1, "alice"), (AGENT_2, "alice"), (AGENT_B, "bob")] {
        database.sql(&format!(
            "INSERT INTO cogo.agent_devices (id, user_id, status, epoch, created_at)
                 VALUES ('{agent}', '{owner}', 'active', 1, now());
             INSERT INTO cogo.agent_tokens (agent_id, version, sealed, fingerprint, status, expires_at)
                 VALUES ('{agent}', 1, 'sealed', '0123456789abcdef', 'active', now());
             INSERT INTO cogo.bus_events
                 (occurred_at, type, agent_id, owner_user_id, trace_id, node, payload)
                 VALUES (now(), 'agent_session_started', '{agent}', '{owner}', 't', 'n', '{{}}');
             INSERT INTO cogo.enrollments
                 (code_hash, challenge, owner_user_id, agent_grant, agent_id, expires_at)
                 VALUES (sha256('{agent}'), 'challenge', '{owner}', '{{}}', '{agent}', now());
             INSERT INTO cogo.changes (kind, agent_id) VALUES ('agent', '{agent}');
             INSERT INTO cogo.nodes VALUES
                 ('{agent}', gen_random_uuid(), true, '1', now(), now());
             INSERT INTO cogo.policies (document, author, created_at) VALUES ('{{}}', 'a', now());
             INSERT INTO cogo.operators (name, role, token_hash, created_at)
                 VALUES ('{agent}', 'viewer', sha256('{agent}'), now());
             INSERT INTO cogo.webhooks (url, sealed, created_at) VALUES ('u', 'sealed', now());
             INSERT INTO cogo.data_keys (id, used_for, wrapped, kek, created_at)
                 VALUES ('{agent}', 'at_rest', 'wrapped', 'kek', now());
             INSERT INTO cogo.signing_keys
                 (kid, purpose, alg, status, sealed, public_jwk, created_at)
                 VALUES ('{agent}', 'agent', 'EdDSA', 'active', 'sealed', '{{}}', now())"
        ));
    }
    database.sql(
        "INSERT INTO cogo.bus_events (occurred_at, type, trace_id, node, payload)
             VALUES (now(), 'auth_violation', 't', 'n', '{}')",
    );
    database
}

/// Somebody who asks.
struct Caller {
    connection: PgConnection,
    /// Becomes this role and brings these claims, within each transaction.
    acting: Option<&'static str>,
    claims: Option<String>,
}

impl Caller {
    async fn edge(database: &Database) -> Self {
        let connection = PgConnection::connect(&database.edge).await.unwrap();
        Self { connection, acting: None, claims: None }
    }

    async fn with_claims(database: &Database, claims: Option<&str>) -> Self {
        let url = database.server.url_for(AUTHENTICATOR, PASSWORD, &database.name);
        let connection = PgConnection::connect(&url).await.unwrap();
        Self { connection, acting: Some("edgeward_agent"), claims: claims.map(str::to_owned) }
    }

    /// The first column of what a statement gives, where that is text, or the code of the error;
    /// nothing of it stays.
    async fn attempt(&mut self, sql: &str) -> Result<Vec<Option<String>>, String> {
        let mut tx = self.connection.begin().await.unwrap();
        if let Some(claims) = &self.claims {
            sqlx::query("SELECT set_config('request.jwt.claims', $1, true)")
                .bind(claims)
                .execute(&mut *tx)
                .await
                .unwrap();
        }
        if let Some(role) = self.acting {
            let sql = AssertSqlSafe(format!("SET LOCAL ROLE {role}"));
            sqlx::query(sql).execute(&mut *tx).await.unwrap();
        }
        let answer = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *tx).await;
        tx.rollback().await.unwrap();
        match answer {
            Ok(rows) => Ok(rows.iter().map(|row| row.try_get(0).ok()).collect()),
            Err(sqlx::Error::Database(error)) => Err(error.code().unwrap().into_owned()),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    async fn is_refused(&mut self, sql: &str) -> bool {
        match self.attempt(sql).await {
            Ok(_) => false,
            // Permission denied, or a column that nobody may change.
            Err(code) if ["42501", "428C9"].contains(&&*code) => true,
            Err(code) => panic!("{sql}: {code}"),
        }
    }
}

fn columns(database: &Database) -> BTreeMap<String, Vec<String>> {
    let rows = database.sql(
        "SELECT relname, attname FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
         WHERE relnamespace = 'cogo'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
               AND attnum > 0 AND NOT attisdropped ORDER BY 1, attnum",
    );
    let mut tables = BTreeMap::<String, Vec<String>>::new();
    for (table, column) in rows.lines().filter_map(|row| row.split_once('|')) {
        tables.entry(table.to_owned()).or_default().push(column.to_owned());
    }
    tables
}

/// Tables that lack protection, or an entry above.
fn unprotected(database: &Database) -> Vec<String> {
    let bare = database.sql(
        "SELECT relname FROM pg_class
         WHERE relnamespace = 'cogo'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
               AND NOT (relrowsecurity AND relforcerowsecurity)",
    );
    let known: BTreeSet<_> = TABLES.iter().map(|table| table.name.to_owned()).collect();
    let there: BTreeSet<_> = columns(database).into_keys().collect();
    let differ = known.symmetric_difference(&there).cloned();
    bare.lines().map(str::to_owned).chain(differ).collect()
}

#[tokio::test]
async fn every_table_is_protected_and_known_here() {
    let database = planted().await;
    assert_eq!(unprotected(&database), [""; 0]);
    for table in TABLES {
        let rows = database.sql(&format!("SELECT count(*) > 0 FROM cogo.{}", table.name));
        assert_eq!(rows, "t", "{}: no row, nothing is tested", table.name);
    }
    database.sql("CREATE TABLE cogo.another (id int)");
    assert_eq!(unprotected(&database), ["another", "another"]);
}

#[tokio::test]
async fn nothing_is_for_everybody_and_all_is_the_owners() {
    let database = planted().await;
    let public = database.sql(
        "SELECT 'schema' FROM pg_namespace, aclexplode(nspacl) AS acl
             WHERE nspname = 'cogo' AND acl.grantee = 0
         UNION ALL SELECT relname FROM pg_class, aclexplode(relacl) AS acl
             WHERE relnamespace = 'cogo'::regnamespace AND acl.grantee = 0
         UNION ALL SELECT attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid,
                 aclexplode(attacl) AS acl
             WHERE relnamespace = 'cogo'::regnamespace AND acl.grantee = 0
         UNION ALL SELECT proname FROM pg_proc,
                 aclexplode(coalesce(proacl, acldefault('f', proowner))) AS acl
             WHERE pronamespace = 'cogo'::regnamespace AND acl.grantee = 0
         UNION ALL SELECT polname FROM pg_policy, unnest(polroles) AS role
             WHERE role = 0",
    );
    assert_eq!(public, "");
    let owners = database.sql(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class
             WHERE relnamespace = 'cogo'::regnamespace
         UNION SELECT pg_get_userbyid(proowner) FROM pg_proc
             WHERE pronamespace = 'cogo'::regnamespace
         UNION SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'cogo'",
    );
    assert_eq!(owners, "edgeward_migrate");
    // Forced: not even the owner sees a row without a policy.
    let seen = database.sql("SET ROLE edgeward_migrate; SELECT count(*) FROM cogo.agent_devices");
    assert_eq!(seen, "0");
}

#[tokio::test]
async fn a_node_does_what_it_needs_and_no_more() {
    let database = planted().await;
    let mut edge = Caller::edge(&database).await;
    for (name, columns) in columns(&database) {
        let table = TABLES.iter().find(|table| table.name == name).unwrap();
        let all = database.sql(&format!("SELECT count(*) FROM cogo.{name}"));
        let may = |verb| table.edge.contains(&verb);
        let seen = edge.attempt(&format!("SELECT count(*)::text FROM cogo.{name}")).await;
        assert_eq!(seen.is_ok(), may("SELECT"), "{name}: {seen:?}");
        if let Ok(seen) = seen {
            assert_eq!(seen, [Some(all.clone())], "{name}: every row");
        }
        let insert = format!(
            "INSERT INTO cogo.{name} OVERRIDING SYSTEM VALUE
             SELECT * FROM cogo.{name} WHERE false"
        );
        assert_eq!(edge.is_refused(&insert).await, !may("INSERT"), "{name}");
        let delete = edge.attempt(&format!("DELETE FROM cogo.{name} RETURNING ''")).await;
        assert_eq!(delete.is_ok(), may("DELETE"), "{name}: {delete:?}");
        if let Ok(gone) = delete {
            assert_eq!(gone.len().to_string(), all, "{name}");
        }
        assert!(edge.is_refused(&format!("TRUNCATE cogo.{name}")).await, "{name}");
        for column in columns {
            let update = format!("UPDATE cogo.{name} SET {column} = {column}");
            let may = table.edge_updates.contains(&&*column);
            assert_eq!(edge.is_refused(&update).await, !may, "{name}.{column}");
        }
    }
}

/// Who comes with which claims, and whose rows that shows.
fn claims() -> Vec<(Option<String>, BTreeSet<&'static str>)> {
    let agent = |id: &str, owner: &str| {
        Some(format!(r#"{{"agent_id":"{id}","owner_user_id":"{owner}","role":"edgeward_agent"}}"#))
    };
    let nothing = [
        "",
        " ",
        "null",
        "1",
        "[]",
        "\"x\"",
        "{",
        "{}",
        "{\"agent_id\":",
        "\u{1}",
        r#"{"sub":"alice"}"#,
        r#"{"owner_user_id":"ALICE"}"#,
        r#"{"owner_user_id":"alice "}"#,
        r#"{"owner_user_id":"alice\n"}"#,
        r#"{"owner_user_id":["alice"]}"#,
        r#"{"owner_user_id":{"alice":1}}"#,
        r#"{"owner_user_id":""}"#,
        r#"{"owner_user_id":"%"}"#,
        r#"{"owner_user_id":"' OR true --"}"#,
        r#"{"owner_user_id":null}"#,
        r#"{"owner_user_id":true}"#,
        r#"{"owner_user_id":"alice\u0000"}"#,
        r#"[{"owner_user_id":"alice"}]"#,
        // A token that names an agent is never its owner's own, whatever it names.
        r#"{"agent_id":null,"owner_user_id":"alice"}"#,
        r#"{"agent_id":"","owner_user_id":"alice"}"#,
        r#"{"agent_id":"x","owner_user_id":"alice"}"#,
        r#"{"agent_id":7,"owner_user_id":"alice"}"#,
        r#"{"agent_id":["00000000-0000-7000-8000-0000000000a1"]}"#,
        r#"{"agent_id":"00000000-0000-7000-8000-0000000000A1"}"#,
        r#"{"agent_id":"{00000000-0000-7000-8000-0000000000a1}"}"#,
        r#"{"agent_id":"000000000000700080000000000000a1"}"#,
        r#"{"agent_id":"00000000-0000-7000-8000-0000000000a1\n"}"#,
        r#"{"agent_id":" 00000000-0000-7000-8000-0000000000a1"}"#,
        r#"{"agent_id":"00000000-0000-7000-8000-0000000000ff","owner_user_id":"alice"}"#,
    ];
    let mut cases = vec![
        (None, BTreeSet::new()),
        (agent(AGENT_1, "alice"), [AGENT_1].into()),
        (agent(AGENT_2, "alice"), [AGENT_2].into()),
        (agent(AGENT_B, "bob"), [AGENT_B].into()),
        (Some(format!(r#"{{"agent_id":"{AGENT_1}"}}"#)), [AGENT_1].into()),
        (Some(r#"{"owner_user_id":"alice"}"#.into()), [AGENT_1, AGENT_2].into()),
        (Some(r#"{"owner_user_id":"bob"}"#.into()), [AGENT_B].into()),
        (Some(r#"{"owner_user_id":"carol"}"#.into()), BTreeSet::new()),
    ];
    cases.extend(nothing.map(|claims| (Some(claims.to_owned()), BTreeSet::new())));
    cases
}

#[tokio::test]
async fn claims_show_ones_own_rows_and_change_none() {
    let database = planted().await;
    let columns = columns(&database);
    for (claims, own) in claims() {
        let mut caller = Caller::with_claims(&database, claims.as_deref()).await;
        let claims = claims.as_deref().unwrap_or("none");
        for table in TABLES {
            let name = table.name;
            match table.whose {
                Some(whose) => {
                    let seen =
                        caller.attempt(&format!("SELECT {whose}::text FROM cogo.{name}")).await;
                    let seen = seen.unwrap();
                    let distinct: BTreeSet<_> = seen.iter().flatten().map(String::as_str).collect();
                    assert_eq!(distinct, own, "{name} by {claims}");
                    assert_eq!(seen.len(), own.len(), "{name} by {claims}: none but these");
                }
                None => {
                    let look = format!("SELECT count(*) FROM cogo.{name}");
                    assert!(caller.is_refused(&look).await, "{name} by {claims}");
                }
            }
            let insert = format!(
                "INSERT INTO cogo.{name} OVERRIDING SYSTEM VALUE
                 SELECT * FROM cogo.{name} WHERE false"
            );
            assert!(caller.is_refused(&insert).await, "{name} by {claims}");
            assert!(caller.is_refused(&format!("DELETE FROM cogo.{name}")).await, "{name}");
            let column = &columns[name][0];
            let update = format!("UPDATE cogo.{name} SET {column} = DEFAULT");
            assert!(caller.is_refused(&update).await, "{name} by {claims}");
        }
    }
}

#[tokio::test]
async fn no_claim_reads_what_is_sealed_or_a_code() {
    let database = planted().await;
    let mut sealed_columns = 0;
    for claims in [format!(r#"{{"agent_id":"{AGENT_1}"}}"#), r#"{"owner_user_id":"alice"}"#.into()]
    {
        let mut caller = Caller::with_claims(&database, Some(&claims)).await;
        for (name, columns) in columns(&database) {
            let table = TABLES.iter().find(|table| table.name == name).unwrap();
            for column in columns {
                let look = format!("SELECT {column}::text FROM cogo.{name}");
                let may = table.claims_read.contains(&&*column);
                assert_eq!(caller.is_refused(&look).await, !may, "{name}.{column}");
                let kept = [
                    "sealed",
                    "fingerprint",
                    "code_hash",
                    "challenge",
                    "wrapped",
                    "snapshot",
                    "token_hash",
                    "payload",
                ];
                if kept.contains(&&*column) {
                    assert!(!may, "{name}.{column}");
                    sealed_columns += 1;
                }
            }
            if !table.claims_read.is_empty() {
                let all = format!("SELECT * FROM cogo.{name}");
                let has_more = name != "agent_devices";
                assert_eq!(caller.is_refused(&all).await, has_more, "{name}");
            }
        }
    }
    assert_eq!(sealed_columns, 2 * 10, "all of them are there");
}

#[tokio::test]
async fn a_node_cannot_leave_its_role() {
    let database = planted().await;
    database.sql(
        "CREATE SCHEMA other; CREATE TABLE other.secrets (id int); INSERT INTO other.secrets VALUES (1);
         CREATE TABLE public.secrets (id int)",
    );
    let mut edge = Caller::edge(&database).await;
    let refused = [
        "SELECT * FROM other.secrets",
        "SELECT * FROM public.secrets",
        "SELECT * FROM pg_authid",
        "CREATE SCHEMA mine",
        "CREATE TABLE cogo.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE FUNCTION cogo.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION cogo.agent_id() RETURNS uuid LANGUAGE sql AS 'SELECT null::uuid'",
        "DROP TABLE cogo.bus_events",
        "DROP SCHEMA cogo CASCADE",
        "ALTER TABLE cogo.bus_events ADD COLUMN more int",
        "ALTER TABLE cogo.bus_events DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE cogo.bus_events NO FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON cogo.webhooks USING (true)",
        "DROP POLICY edge_select ON cogo.bus_events",
        "CREATE INDEX ON cogo.bus_events (id)",
        "GRANT SELECT ON cogo.webhooks TO edgeward_edge",
        "CREATE ROLE mine",
        "ALTER ROLE edgeward_edge BYPASSRLS",
        "ALTER ROLE edgeward_edge SUPERUSER",
        "GRANT edgeward_migrate TO edgeward_edge",
        "SET ROLE edgeward_migrate",
        "SET ROLE edgeward_agent",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/never'",
        "SELECT pg_read_file('/etc/passwd')",
        "ALTER SYSTEM SET fsync = off",
        "SET session_replication_role = replica",
        "SELECT cogo.agent_id()",
        "CREATE DATABASE mine",
    ];
    for sql in refused {
        let answer = edge.attempt(sql).await;
        // "CREATE DATABASE" and "ALTER SYSTEM" are refused in any transaction.
        let codes = ["42501", "25001"];
        assert!(matches!(&answer, Err(code) if codes.contains(&&**code)), "{sql}: {answer:?}");
    }
    let traits = database.sql(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication,
                rolcanlogin
         FROM pg_roles WHERE rolname LIKE 'edgeward%' ORDER BY 1",
    );
    assert_eq!(
        traits,
        "edgeward_agent|f|f|f|f|f|f\nedgeward_edge|f|f|f|f|f|t\nedgeward_migrate|f|f|f|f|f|t"
    );
    let members = database.sql(
        "SELECT r.rolname FROM pg_auth_members JOIN pg_roles AS r ON roleid = r.oid
         JOIN pg_roles AS m ON member = m.oid WHERE m.rolname LIKE 'edgeward%'",
    );
    assert_eq!(members, "", "none of them is a member of anything");
}

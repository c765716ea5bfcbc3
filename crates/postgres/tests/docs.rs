//! `docs/rls.md`: its SQL is run as it stands, and holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use edgeward_postgres::{DatabaseUrl, SchemaName, migrate};
use edgeward_services::Postgres;
use support::PASSWORD;

const PAGE: &str = include_str!("../../../docs/rls.md");
const AGENT: &str = "0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f";
const OTHER: &str = "0192f3c4-5a6b-7c8d-9e0f-000000000002";

fn blocks() -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in PAGE.lines() {
        match (&mut open, line) {
            (None, "```sql") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => *block += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    blocks
}

struct Adopter {
    server: Postgres,
    admin: String,
}

impl Adopter {
    /// A statement by the service, with these claims.
    fn with(&self, claims: &str, sql: &str) -> Result<String, edgeward_services::ServiceError> {
        self.acting("edgeward_agent", claims, sql)
    }

    fn acting(
        &self,
        role: &str,
        claims: &str,
        sql: &str,
    ) -> Result<String, edgeward_services::ServiceError> {
        let url = self.server.url_for("notes_service", PASSWORD, "app");
        let sql = format!(
            "BEGIN; \\o /dev/null
             SELECT set_config('request.jwt.claims', '{claims}', true); \\o
             SET LOCAL ROLE {role}; {sql}; COMMIT;"
        );
        self.server.psql(&url, &sql)
    }
}

async fn adopted() -> Adopter {
    let server = Postgres::start().unwrap();
    let admin = server.create_database("app").unwrap();
    migrate(&DatabaseUrl::new(&admin), &SchemaName::default()).await.unwrap();
    for agent in [AGENT, OTHER] {
        let enrolled = format!(
            "INSERT INTO cogo.agent_devices (id, user_id, status, epoch, created_at)
             VALUES ('{agent}', 'alice', 'active', 1, now())"
        );
        server.psql(&admin, &enrolled).unwrap();
    }
    let blocks = blocks();
    assert_eq!(blocks.len(), 7, "each of them is run");
    for (at, block) in blocks.iter().enumerate() {
        let said = server.psql(&admin, block).unwrap_or_else(|error| panic!("{block}\n{error}"));
        if at + 1 == blocks.len() {
            assert_eq!(said, "", "the page's own tables are protected");
        }
    }
    server
        .psql(
            &admin,
            &format!(
                "ALTER ROLE notes_service PASSWORD '{PASSWORD}'; GRANT reports TO notes_service"
            ),
        )
        .unwrap();
    Adopter { server, admin }
}

fn claims(agent: &str) -> String {
    at_epoch(agent, "1")
}

fn at_epoch(agent: &str, epoch: &str) -> String {
    format!(r#"{{"agent_id":"{agent}","owner_user_id":"alice","epoch":{epoch}}}"#)
}

#[tokio::test]
async fn a_table_of_ones_own_shows_the_rows_of_one_agent_only() {
    let app = adopted().await;
    let by = |agent: &str, sql: &str| app.with(&claims(agent), sql);
    assert_eq!(by(AGENT, "SELECT text FROM public.notes").unwrap(), "shut", "the page's own note");
    by(OTHER, "INSERT INTO public.notes (text) VALUES ('other')").unwrap();
    for (agent, seen) in [(AGENT, "shut"), (OTHER, "other")] {
        assert_eq!(by(agent, "SELECT text FROM public.notes").unwrap(), seen);
    }
    // Neither in another's name, nor handed over, nor seen, changed or removed.
    let foreign = format!("INSERT INTO public.notes (agent_id, text) VALUES ('{AGENT}', 'x')");
    assert!(by(OTHER, &foreign).is_err());
    assert!(by(OTHER, &format!("UPDATE public.notes SET agent_id = '{AGENT}'")).is_err());
    by(OTHER, "UPDATE public.notes SET text = 'mine'").unwrap();
    let here = format!("DELETE FROM public.notes WHERE agent_id = '{AGENT}'");
    by(OTHER, &here).unwrap();
    by(OTHER, "DELETE FROM public.notes").unwrap();
    let all = app.server.psql(&app.admin, "SELECT text FROM public.notes").unwrap();
    assert_eq!(all, "shut");
    for none in ["", "{}", "[]", "{\"agent_id\":1}", "{", r#"{"owner_user_id":"alice"}"#] {
        assert_eq!(app.with(none, "SELECT text FROM public.notes").unwrap(), "", "{none}");
        assert!(app.with(none, "INSERT INTO public.notes (text) VALUES ('x')").is_err(), "{none}");
    }
    assert_eq!(
        app.acting("reports", &claims(AGENT), "SELECT text FROM public.notes").unwrap(),
        "shut"
    );
    assert_eq!(app.acting("reports", &claims(OTHER), "SELECT text FROM public.notes").unwrap(), "");
    assert!(app.acting("reports", &claims(AGENT), "DELETE FROM public.notes").is_err());
    // By itself the service is nothing.
    let url = app.server.url_for("notes_service", PASSWORD, "app");
    assert!(app.server.psql(&url, "SELECT text FROM public.notes").is_err());
}

#[tokio::test]
async fn an_owners_table_is_read_by_its_agents_and_written_by_the_owner() {
    let app = adopted().await;
    let owner = |name: &str| format!(r#"{{"owner_user_id":"{name}"}}"#);
    let insert = |name: &str| {
        format!("INSERT INTO public.sites (owner_user_id, name) VALUES ('{name}', 'of {name}')")
    };
    for name in ["alice", "bob"] {
        app.with(&owner(name), &insert(name)).unwrap();
    }
    assert!(app.with(&owner("bob"), &insert("alice")).is_err());
    assert!(app.with(&claims(AGENT), &insert("alice")).is_err(), "an agent writes none");
    let look = "SELECT name FROM public.sites";
    assert_eq!(app.with(&claims(AGENT), look).unwrap(), "of alice");
    assert_eq!(app.with(&owner("alice"), look).unwrap(), "of alice");
    assert_eq!(app.with(&owner("bob"), look).unwrap(), "of bob");
    assert_eq!(app.with("{}", look).unwrap(), "");
}

/// What a token was given for has ended before the token has.
#[tokio::test]
async fn a_token_of_before_a_block_shows_and_writes_nothing() {
    let app = adopted().await;
    app.with(
        r#"{"owner_user_id":"alice"}"#,
        "INSERT INTO public.sites (owner_user_id, name) VALUES ('alice', 'site')",
    )
    .unwrap();
    let write = "INSERT INTO public.notes (text) VALUES ('late')";
    let shows = |claims: &str| {
        let seen = [("edgeward_agent", "notes"), ("edgeward_agent", "sites"), ("reports", "notes")]
            .map(|(role, table)| {
                let look = format!("SELECT count(*) FROM public.{table}");
                app.acting(role, claims, &look).unwrap()
            });
        let written = app.with(claims, &format!("{write}; ROLLBACK")).is_ok();
        (seen.join(" "), written)
    };
    let now = |sql: &str| {
        let sql = format!("UPDATE cogo.agent_devices SET {sql} WHERE id = '{AGENT}'");
        app.server.psql(&app.admin, &sql).unwrap();
    };
    let (all, nothing) = (("1 1 1".to_owned(), true), ("0 0 0".to_owned(), false));
    assert_eq!(shows(&claims(AGENT)), all);
    for epoch in ["0", "2", "1.0", "\"1\"", "null", "[1]", "true", "{}", "-1", "1e1"] {
        assert_eq!(shows(&at_epoch(AGENT, epoch)), nothing, "{epoch}");
    }
    let without = format!(r#"{{"agent_id":"{AGENT}","owner_user_id":"alice"}}"#);
    assert_eq!(shows(&without), nothing, "no epoch at all");
    for status in ["blocked", "retired"] {
        now(&format!("status = '{status}'"));
        assert_eq!(shows(&claims(AGENT)), nothing, "{status}");
    }
    now("status = 'active', epoch = 2");
    assert_eq!(shows(&claims(AGENT)), nothing, "enrolled anew");
    assert_eq!(shows(&at_epoch(AGENT, "2")), all);
    let asks = |claims: &str| app.with(claims, "SELECT cogo.is_current()").unwrap();
    assert_eq!(asks(&at_epoch(AGENT, "2")), "t");
    let nobody = "0192f3c4-5a6b-7c8d-9e0f-000000000009";
    for claims in
        [String::new(), "{}".into(), r#"{"owner_user_id":"alice"}"#.into(), claims(nobody)]
    {
        assert_eq!(asks(&claims), "f", "{claims}");
    }
}

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
    format!(r#"{{"agent_id":"{agent}","owner_user_id":"alice"}}"#)
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

//! How a database comes to have the tables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use edgeward_postgres::{
    DatabaseUrl, PostgresOptions, PostgresStore, SchemaName, migrate, migrations_sql,
};
use edgeward_store::StoreError;
use edgeward_store::conformance;
use support::{Database, EDGE, PASSWORD, open, options};

fn cogo() -> SchemaName {
    SchemaName::default()
}

async fn steps(database: &Database, schema: &SchemaName) -> Vec<u32> {
    let applied = migrate(&DatabaseUrl::new(&database.admin), schema).await.unwrap();
    applied.iter().map(|step| step.version).collect()
}

/// Everything in the database as SQL, but for what differs from run to run.
fn dump(database: &Database) -> String {
    let dump = database.server.pg_dump(&database.admin).unwrap();
    let plain =
        |line: &&str| !line.starts_with("--") && !line.is_empty() && !line.contains("restrict");
    // The time at which a step was taken.
    let line = |line: &str| {
        let step = ["first", "apart"].into_iter().find_map(|name| {
            let (version, _) = line.split_once(&format!("\t{name}\t1\t"))?;
            Some(format!("{version} {name}"))
        });
        step.unwrap_or_else(|| line.to_owned())
    };
    dump.lines().filter(plain).map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_printed_sql_makes_the_same_and_does_nothing_twice() {
    let (ours, printed) = (Database::empty(), Database::empty());
    assert_eq!(steps(&ours, &cogo()).await, [1, 2]);
    let sql = migrations_sql(&cogo());
    printed.sql(&sql);
    let whole = dump(&ours);
    assert!(whole.contains("CREATE TABLE cogo.agent_devices"), "{whole}");
    assert!(whole.contains("FORCE ROW LEVEL SECURITY"), "{whole}");
    assert!(whole.contains("1 first\n2 apart"), "the versions are noted: {whole}");
    assert_eq!(dump(&printed), whole);

    // Again, and each after the other.
    printed.sql(&sql);
    ours.sql(&sql);
    assert_eq!(steps(&printed, &cogo()).await, [0; 0]);
    assert_eq!(steps(&ours, &cogo()).await, [0; 0]);
    assert_eq!(dump(&printed), whole);
    assert_eq!(dump(&ours), whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_take_each_step_once() {
    let database = Database::empty();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let url = DatabaseUrl::new(&database.admin);
        tasks.push(tokio::spawn(async move { migrate(&url, &cogo()).await.unwrap().len() }));
    }
    let mut taken = 0;
    for task in tasks {
        taken += task.await.unwrap();
    }
    assert_eq!(taken, 2);
    assert_eq!(
        database.sql("SELECT version, name, least_version FROM cogo.migrations ORDER BY 1"),
        "1|first|1\n2|apart|1"
    );
}

/// Roles belong to the server: two databases of a new one make them at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_databases_of_a_new_server_are_migrated_at_once() {
    let server = edgeward_services::Postgres::start().unwrap();
    let urls: Vec<_> = (0..4).map(|_| server.fresh_database().unwrap()).collect();
    let mut tasks = Vec::new();
    for url in &urls {
        let url = DatabaseUrl::new(url);
        tasks.push(tokio::spawn(
            async move { migrate(&url, &cogo()).await.map(|steps| steps.len()) },
        ));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(2));
    }
}

#[tokio::test]
async fn a_schema_of_another_name_stands_beside_the_first() {
    let database = Database::fresh().await;
    let other = SchemaName::parse("edge_2").unwrap();
    assert_eq!(steps(&database, &other).await, [1, 2]);
    let at = |schema| PostgresOptions { schema, ..options(&database.edge, "node-1") };
    let second = open(at(other)).await;
    conformance::events(&*second).await;
    assert_eq!(database.sql("SELECT count(*) > 0 FROM edge_2.bus_events"), "t");
    assert_eq!(database.sql("SELECT count(*) FROM cogo.bus_events"), "0");
    conformance::agents_and_enrollments(open(at(cogo())).await).await;
}

#[tokio::test]
async fn without_the_tables_a_node_does_not_start() {
    let database = Database::fresh().await;
    let open = |database: &Database| {
        PostgresStore::open(PostgresOptions { strict: false, ..options(&database.admin, "node-1") })
    };
    let refused = open(&Database::empty()).await.unwrap_err();
    let StoreError::Unavailable(why) = refused else { panic!("{refused}") };
    assert_eq!(why, "schema cogo has no tables of edgeward: run `edgeward migrate`");

    database.sql("DELETE FROM cogo.migrations");
    let refused = open(&database).await.unwrap_err();
    let StoreError::Unavailable(why) = refused else { panic!("{refused}") };
    assert!(why.ends_with("run `edgeward migrate`"), "{why}");
}

#[tokio::test]
async fn newer_tables_are_used_where_they_allow_it_and_refused_where_not() {
    let database = Database::fresh().await;
    let open = || PostgresStore::open(options(&database.edge, "node-1"));
    let url = DatabaseUrl::new(&database.admin);
    // Additive: the release before still runs, and has nothing to do.
    database.sql("INSERT INTO cogo.migrations VALUES (98, 'later', 1)");
    assert!(open().await.is_ok());
    assert_eq!(migrate(&url, &cogo()).await, Ok(Vec::new()));

    database.sql("INSERT INTO cogo.migrations VALUES (99, 'much later', 99)");
    for refused in [open().await.map(drop), migrate(&url, &cogo()).await.map(drop)] {
        let Err(StoreError::Corrupt(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("newer version of edgeward") && why.contains("99"), "{why}");
    }
    assert!(database.server.psql(&database.admin, &migrations_sql(&cogo())).is_err());
    assert_eq!(database.sql("SELECT count(*) FROM cogo.migrations"), "4");
}

#[tokio::test]
async fn a_role_that_policies_do_not_bind_is_refused_where_it_matters() {
    let database = Database::fresh().await;
    database.sql(&format!(
        "CREATE ROLE passes LOGIN BYPASSRLS PASSWORD '{PASSWORD}' IN ROLE edgeward_edge;
         CREATE ROLE makes LOGIN CREATEROLE PASSWORD '{PASSWORD}' IN ROLE edgeward_edge;
         CREATE ROLE owns LOGIN PASSWORD '{PASSWORD}' IN ROLE edgeward_edge, edgeward_migrate;
         CREATE ROLE one_more LOGIN PASSWORD '{PASSWORD}' IN ROLE edgeward_edge;
         CREATE ROLE chief SUPERUSER;
         CREATE ROLE middle IN ROLE passes;
         CREATE ROLE schema_owner;
         CREATE ROLE becomes_super LOGIN NOINHERIT PASSWORD '{PASSWORD}' IN ROLE edgeward_edge, chief;
         CREATE ROLE becomes_passes LOGIN PASSWORD '{PASSWORD}' IN ROLE edgeward_edge, middle;
         CREATE ROLE becomes_makes LOGIN PASSWORD '{PASSWORD}' IN ROLE edgeward_edge, makes;
         CREATE ROLE becomes_owner LOGIN PASSWORD '{PASSWORD}' IN ROLE edgeward_edge, schema_owner;
         GRANT edgeward_edge TO becomes_super WITH ADMIN OPTION;
         GRANT USAGE ON SCHEMA cogo TO becomes_super;
         GRANT SELECT ON cogo.migrations TO becomes_super;
         CREATE POLICY look ON cogo.migrations FOR SELECT TO becomes_super USING (true);
         ALTER SCHEMA cogo OWNER TO schema_owner;
         GRANT USAGE ON SCHEMA cogo TO edgeward_migrate"
    ));
    let url = |role| database.server.url_for(role, PASSWORD, &database.name);
    let open = |url: String, strict| {
        PostgresStore::open(PostgresOptions { strict, ..options(&url, "node-1") })
    };
    for (url, why) in [
        (database.admin.clone(), "is a superuser"),
        (url("passes"), "may bypass row-level security"),
        (url("makes"), "may make roles"),
        (url("owns"), "owns the tables"),
        (url("becomes_super"), "is a superuser"),
        (url("becomes_passes"), "may bypass row-level security"),
        (url("becomes_makes"), "may make roles"),
        (url("becomes_owner"), "owns the tables"),
        (format!("{}?options=-c%20role%3Dedgeward_edge", database.admin), "is a superuser"),
    ] {
        let refused = open(url.clone(), true).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
        assert!(open(url, false).await.is_ok(), "{why}: only warned of");
    }
    for role in [EDGE, "one_more"] {
        let store = open(url(role), true).await.unwrap();
        conformance::standings(std::sync::Arc::new(store)).await;
        database.sql(
            "TRUNCATE cogo.agent_devices, cogo.agent_tokens, cogo.enrollments, cogo.bus_events",
        );
    }
}

/// As on Supabase: no superuser, and roles of others that are there before.
#[tokio::test]
async fn whoever_may_make_roles_and_schemas_can_migrate() {
    let server = edgeward_services::Postgres::start().unwrap();
    let admin = server.create_database("app").unwrap();
    server
        .psql(
            &admin,
            &format!(
                "CREATE ROLE builder LOGIN CREATEROLE PASSWORD '{PASSWORD}';
                 GRANT CREATE ON DATABASE app TO builder;
                 CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD '{PASSWORD}'"
            ),
        )
        .unwrap();
    let url = server.url_for("builder", PASSWORD, "app");
    assert_eq!(migrate(&DatabaseUrl::new(&url), &cogo()).await.unwrap().len(), 2);
    assert!(migrate(&DatabaseUrl::new(&url), &cogo()).await.unwrap().is_empty());
    let becomes = server.psql(
        &server.url_for("authenticator", PASSWORD, "app"),
        "SET ROLE edgeward_agent; SELECT count(*) FROM cogo.agent_devices",
    );
    assert_eq!(becomes.unwrap(), "0");
    // The owner itself, from then on.
    server.psql(&admin, &format!("ALTER ROLE edgeward_migrate PASSWORD '{PASSWORD}'")).unwrap();
    let owner = server.url_for("edgeward_migrate", PASSWORD, "app");
    assert!(migrate(&DatabaseUrl::new(&owner), &cogo()).await.unwrap().is_empty());
    // A node may not, and changes nothing by trying.
    server.psql(&admin, &format!("ALTER ROLE edgeward_edge PASSWORD '{PASSWORD}'")).unwrap();
    let edge = server.url_for(EDGE, PASSWORD, "app");
    assert!(migrate(&DatabaseUrl::new(&edge), &cogo()).await.is_err());
}

#[tokio::test]
async fn no_error_says_the_password() {
    let database = Database::fresh().await;
    let secret = "wr0ng-p4ssword";
    let address = database.server.address();
    for url in [
        database.server.url_for(EDGE, secret, &database.name),
        database.server.url_for(EDGE, secret, "no_such_database"),
        format!("postgres://{EDGE}:{secret}@127.0.0.1:1/x"),
        format!("postgres://{EDGE}:{secret}@{address}/x?sslmode=verify-full"),
        format!("postgres://{EDGE}:{secret}@[/x"),
    ] {
        let options = options(&url, "node-1");
        assert!(!format!("{options:?}").contains(secret));
        let refused = PostgresStore::open(options).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains(secret), "{refused}");
        let refused = migrate(&DatabaseUrl::new(&url), &cogo()).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains(secret), "{refused}");
    }
}

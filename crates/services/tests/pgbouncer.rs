//! PgBouncer stands in front of Postgres and changes connections between transactions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use edgeward_services::{PgBouncer, Postgres, SUPERUSER, SUPERUSER_PASSWORD};

#[test]
fn a_session_lives_on_several_connections_of_the_server() {
    let postgres = Postgres::shared().unwrap();
    postgres.psql(&postgres.url(), "CREATE ROLE pooled LOGIN PASSWORD 'secret'").unwrap();
    let bouncer = PgBouncer::start(postgres, &[("pooled", "secret")]).unwrap();
    let url = bouncer.url_for("pooled", "secret", "postgres");
    assert_eq!(postgres.psql(&url, "SELECT current_user").unwrap(), "pooled");

    // as many connections of the server as there may be, each busy until all are
    let opened = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'pooled'";
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let wait = format!(
                "DO $$ BEGIN WHILE ({opened}) < 3 LOOP \
                 PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP; END $$"
            );
            let url = &url;
            scope.spawn(move || postgres.psql(url, &wait).unwrap());
        }
    });
    let backends = postgres.psql(&url, &"SELECT pg_backend_pid();".repeat(6)).unwrap();
    let mut backends: Vec<&str> = backends.lines().collect();
    backends.sort_unstable();
    backends.dedup();
    assert!(backends.len() > 1, "{backends:?}");

    assert!(postgres.psql(&bouncer.url_for("pooled", "wrong", "postgres"), "SELECT 1").is_err());
    bouncer.kill().unwrap();
    assert!(postgres.psql(&url, "SELECT 1").is_err());
    bouncer.restart().unwrap();
    assert_eq!(postgres.psql(&url, "SELECT 1").unwrap(), "1");
    let admin = bouncer.url_for(SUPERUSER, SUPERUSER_PASSWORD, "pgbouncer");
    assert!(postgres.psql(&admin, "SHOW POOLS").unwrap().contains("pooled"));
}

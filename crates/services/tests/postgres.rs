//! A throwaway Postgres starts, answers, and survives what is done to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use edgeward_services::{Postgres, ServiceError};

#[test]
fn it_answers_and_keeps_its_data_over_a_kill_and_a_stop() {
    let server = Postgres::start().unwrap();
    let database = server.create_database("a \"b\"").unwrap();
    server.psql(&database, "CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)").unwrap();
    let rows = || server.psql(&database, "SELECT n, n + 1 FROM t ORDER BY n").unwrap();
    assert_eq!(rows(), "1|2\n2|3");
    let address = server.address();

    server.kill().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    server.restart().unwrap();
    assert_eq!(rows(), "1|2\n2|3");

    server.stop().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    server.restart().unwrap();
    assert_eq!(rows(), "1|2\n2|3");
    assert_eq!(server.address(), address);
    assert!(server.pg_dump(&database).unwrap().contains("CREATE TABLE public.t"));
}

#[test]
fn a_role_needs_its_password() {
    let server = Postgres::shared().unwrap();
    server.psql(&server.url(), "CREATE ROLE reader LOGIN PASSWORD 'p@ss/word'").unwrap();
    let whoami = |password| {
        server.psql(&server.url_for("reader", password, "postgres"), "SELECT current_user")
    };
    assert_eq!(whoami("p@ss/word").unwrap(), "reader");
    let refused = whoami("another").unwrap_err();
    assert!(matches!(refused, ServiceError::Refused { .. }), "{refused}");
}

#[test]
fn fresh_databases_are_empty_and_distinct_and_the_shared_server_is_one() {
    let server = Postgres::shared().unwrap();
    let (one, other) = (server.fresh_database().unwrap(), server.fresh_database().unwrap());
    server.psql(&one, "CREATE TABLE t (n int)").unwrap();
    assert!(server.psql(&other, "SELECT * FROM t").is_err());
    assert_eq!(Postgres::shared().unwrap().url(), server.url());
}

#[test]
fn the_first_error_ends_a_script() {
    let server = Postgres::shared().unwrap();
    let url = server.fresh_database().unwrap();
    assert!(server.psql(&url, "SELECT nothing; CREATE TABLE t (n int)").is_err());
    assert!(server.psql(&url, "SELECT * FROM t").is_err());
}

#[test]
fn a_frozen_server_answers_nothing_until_it_goes_on() {
    let server = Postgres::start().unwrap();
    server.pause().unwrap();
    std::thread::scope(|scope| {
        let (sender, answers) = std::sync::mpsc::channel();
        let (server, url) = (&server, server.url());
        scope.spawn(move || sender.send(server.psql(&url, "SELECT 1")).unwrap());
        // it answers within milliseconds when it is not frozen
        let silence = std::time::Duration::from_millis(700);
        assert!(answers.recv_timeout(silence).is_err());
        server.resume().unwrap();
        assert_eq!(answers.recv().unwrap().unwrap(), "1");
    });
}

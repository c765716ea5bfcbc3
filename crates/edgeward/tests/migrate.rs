//! `edgeward migrate`: printed, applied, and where there is nothing to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::path::Path;
use std::process::{Command, Output};

use edgeward_services::Postgres;

fn edgeward(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeward"));
    command.current_dir(folder).env_clear().arg("migrate");
    command
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// Whether a Postgres may be started here.
fn with_services() -> bool {
    std::env::var_os("EDGEWARD_EMBEDDED").is_none()
}

#[test]
fn the_sql_is_printed_without_any_settings_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let sql = out(&edgeward(folder.path()).arg("--print").output().unwrap());
    assert!(sql.contains("BEGIN;") && sql.contains("CREATE SCHEMA \"cogo\""), "{sql}");
    let other = edgeward(folder.path()).args(["--print", "--schema", "edge_2"]).output().unwrap();
    let other = out(&other);
    assert!(other.contains("\"edge_2\"") && !other.contains("cogo"), "{other}");
    let set = edgeward(folder.path()).arg("--print").env("EDGE_DB_SCHEMA", "edge_2").output();
    assert_eq!(out(&set.unwrap()), other);
    // Nobody is there to connect to.
    let url = "postgres://edge:s3cret@127.0.0.1:1/edge";
    let unreached = edgeward(folder.path()).args(["--print", "--database-url", url]).output();
    assert_eq!(out(&unreached.unwrap()), sql);
    assert!(is_empty(folder.path()));
}

#[test]
fn what_cannot_be_is_refused_without_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let url = "postgres://edge:s3cret@127.0.0.1:1/edge";
    let unreached = edgeward(folder.path()).args(["--database-url", url]).output().unwrap();
    assert_eq!(unreached.status.code(), Some(1));
    let wrong_url = edgeward(folder.path()).args(["--database-url", "s3cret"]).output().unwrap();
    assert_eq!(wrong_url.status.code(), Some(2));
    let wrong_name = edgeward(folder.path()).args(["--print", "--schema", "a'b"]).output().unwrap();
    assert_eq!(wrong_name.status.code(), Some(2));
    for refused in [unreached, wrong_url, wrong_name] {
        let text = format!("{refused:?}");
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty(), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn sqlite_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    let said = out(&edgeward(folder.path()).args(["--data-dir", "data"]).output().unwrap());
    assert!(said.contains("nothing to do") && said.contains("data/edgeward.db"), "{said}");
    assert!(is_empty(folder.path()));
}

#[test]
fn a_database_is_brought_up_to_date_once_whatever_production_asks_of_the_edge() {
    if !with_services() {
        return;
    }
    let postgres = Postgres::shared().unwrap();
    let url = postgres.fresh_database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let migrate = || {
        let mut command = edgeward(folder.path());
        command.env("EDGE_DATABASE_URL", &url).env("EDGE_PROFILE", "production");
        command
    };
    assert_eq!(out(&migrate().output().unwrap()), "applied 1 first\napplied 2 apart\n");
    assert_eq!(out(&migrate().output().unwrap()), "nothing to do\n");
    let sql = out(&migrate().arg("--print").output().unwrap());
    postgres.psql(&url, &sql).unwrap();
    let other = migrate().args(["--schema", "edge_2"]).output().unwrap();
    assert_eq!(out(&other), "applied 1 first\napplied 2 apart\n");
    let schemas = "SELECT table_schema FROM information_schema.tables
                   WHERE table_name = 'agent_devices' ORDER BY 1";
    assert_eq!(postgres.psql(&url, schemas).unwrap(), "cogo\nedge_2");
}

#[test]
fn what_is_printed_can_be_applied_by_other_tools() {
    if !with_services() {
        return;
    }
    let postgres = Postgres::shared().unwrap();
    let url = postgres.fresh_database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sql = out(&edgeward(folder.path()).arg("--print").output().unwrap());
    postgres.psql(&url, &sql).unwrap();
    let then = edgeward(folder.path()).args(["--database-url", &url]).output().unwrap();
    assert_eq!(out(&then), "nothing to do\n");
}

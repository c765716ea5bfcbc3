//! `edgeward status` against a running edge, and against none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

#[test]
fn status_tells_of_a_running_edge_and_of_none() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let edgeward = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeward"));
        command.args(args).args(["--data-dir", data]).env_clear();
        command
    };
    let nobody = edgeward(&["status"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("is it running"));

    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut serving =
        edgeward(&serve).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("listening on ")).unwrap().unwrap();

    let table = edgeward(&["status"]).output().unwrap();
    assert_eq!(table.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&table.stdout).contains("replay_floor"));
    let json = edgeward(&["status", "--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.pointer("/readiness/ready"), Some(&true.into()));
    assert_eq!(json.pointer("/status/admitted"), Some(&0.into()));
    serving.kill().unwrap();
    serving.wait().unwrap();
}

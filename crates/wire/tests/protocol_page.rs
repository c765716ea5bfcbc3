//! The protocol's page says the same as the code: its table of rejections is the table of codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use edgeward_wire::{Advice, Code};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// The cells of every row of the table that follows `heading`, its head and rule apart.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = PAGE.split_once(&format!("\n{heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn advice(advice: Advice) -> &'static str {
    match advice {
        Advice::FixRequest => "fix itself",
        Advice::Sign => "sign",
        Advice::CorrectClock => "correct its clock",
        Advice::StartSession => "start a session",
        Advice::RenewSecret => "stop; pick up a rotated secret, or enrol again",
        Advice::NewNonce => "sign again with a new nonce",
        Advice::RefreshToken => "refresh the JWT",
        Advice::Stop => "stop",
        Advice::Wait | Advice::Retry => "wait, sign again",
        Advice::RetryIfIdempotent => "sign again if the call is idempotent",
    }
}

#[test]
fn the_table_of_rejections_is_the_table_of_codes() {
    let rows = table("## 7. Rejections");
    let page: Vec<(String, String)> =
        rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let code: Vec<(String, String)> = Code::ALL
        .iter()
        .map(|code| (format!("`{code}`"), code.status().as_u16().to_string()))
        .collect();
    assert_eq!(page, code);
}

#[test]
fn every_row_gives_the_advice_that_clients_follow() {
    let rows = table("## 7. Rejections");
    assert_eq!(rows.len(), Code::ALL.len());
    for (row, code) in rows.iter().zip(Code::ALL) {
        let expected = advice(code.advice());
        let same = match code.advice() {
            Advice::CorrectClock => row[3].starts_with(expected),
            Advice::FixRequest
            | Advice::Sign
            | Advice::StartSession
            | Advice::RenewSecret
            | Advice::NewNonce
            | Advice::RefreshToken
            | Advice::Stop
            | Advice::Wait
            | Advice::RetryIfIdempotent
            | Advice::Retry => row[3] == expected,
        };
        assert!(same, "{code}: the page says {:?}, the code {expected:?}", row[3]);
    }
}

#[test]
fn every_endpoint_and_label_of_the_code_stands_on_the_page() {
    for text in [
        "EDGEWARD-HMAC-SHA256-V2",
        "edgeward-session-v2",
        "edgeward-enroll-v2",
        "edgeward-device-v2",
        "/agent/healthz",
        "/.well-known/jwks.json",
        "/.well-known/identity-jwks.json",
        "/agent/enroll/start",
        "/agent/enroll/challenge",
        "/agent/enroll/complete",
        "/agent/session/start",
        "/agent/session/extend",
        "/agent/session/end",
        "/agent/token/refresh",
        "/agent/protected/echo",
    ] {
        assert!(PAGE.contains(text), "{text}");
    }
}

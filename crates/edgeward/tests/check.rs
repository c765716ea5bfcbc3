//! `edgeward check` says what a start would say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

use std::process::Command;

fn check(kek: &str) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_edgeward"))
        .args(["check", "--profile", "production", "--json"])
        .env_clear()
        .envs([
            ("EDGE_PROFILE", "production"),
            ("EDGE_AUDIENCE", "prod"),
            ("EDGE_KEK", "env:MY_KEK"),
        ])
        .envs([("MY_KEK", kek), ("OWNER_JWT_SECRET", "0123456789abcdef0123456789abcdef")])
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_key_that_a_start_would_refuse_is_found() {
    let good = "8f1d0c5e6a7b48392010ffeeddccbbaa00112233445566778899aabbccddeef1";
    let (code, findings) = check(good);
    assert_eq!(code, 0, "{findings}");
    for bad in ["AAAA", &"0".repeat(64)] {
        let (code, findings) = check(bad);
        assert_eq!(code, 1, "{findings}");
        assert!(findings.contains("EDGE_KEK") && !findings.contains(bad), "{findings}");
    }
}

//! What is written down about calls.

use std::io;
use std::sync::{Arc, Mutex};

use crate::common::Place;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_call_is_logged_with_its_actor_and_without_the_token() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let place = Place::new();
    let running = place.start().await;
    let token = place.token();
    let bearer = format!("Authorization: Bearer {token}");
    let admitted = running.tcp(&format!("GET /status?token={token}"), &[&bearer]).await;
    let refused = running.tcp("GET /readyz", &[&format!("{bearer}x")]).await;
    let peer = running.unix("GET /healthz", &[]).await;
    let agent = "/agents/0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f/block";
    let write = ["Content-Type: application/json", "Content-Length: 2"];
    let write = running.unix_with(&format!("POST {agent}"), &write, "{}").await;
    running.stop().await;

    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line_of = |trace: Option<&str>| {
        let line = log.lines().find(|line| line.contains(trace.unwrap()));
        line.unwrap_or_else(|| panic!("{trace:?} is not in {log}"))
    };
    let line = line_of(admitted.header("x-trace-id"));
    let fingerprint = line.split("actor=token:").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(fingerprint.len(), 8);
    assert!(line.contains("INFO") && line.contains(r#"path="/status" status=200"#), "{line}");
    let line = line_of(refused.header("x-trace-id"));
    assert!(line.contains("INFO") && line.contains("token_invalid"), "{line}");
    let line = line_of(peer.header("x-trace-id"));
    assert!(line.contains("INFO") && line.contains("actor=uid:"), "{line}");
    let line = line_of(write.header("x-trace-id"));
    let told = format!(r#"method=POST path="{agent}" status=404"#);
    assert!(line.contains("actor=uid:") && line.contains(&told), "{line}");
    assert!(!log.contains(&token[5..]), "the token is in the log");
}

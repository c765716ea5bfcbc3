//! JSON of strangers: bounded, nothing unknown, nothing twice; refused quickly and without values.

use std::time::Duration;

use edgeward_testkit::{Agent, TestEdge, Upstream, raw};
use serde_json::Value;
use tokio::time::Instant;

/// Five times what a refusal may take.
const DEADLINE: Duration = Duration::from_millis(25);

fn nested(depth: usize) -> String {
    // The object around it is a level too.
    format!(
        "{{\"enroll_code\":\"0\",\"metadata\":{}{}}}",
        "[".repeat(depth - 1),
        "]".repeat(depth - 1)
    )
}

/// An object with so many members in all, `alias` and `metadata` among them.
fn members(count: usize) -> String {
    let more: String = (2..=count - 2).map(|number| format!(",\"m{number}\":0")).collect();
    format!("{{\"alias\":\"a\",\"metadata\":{{\"m1\":0{more}}}}}")
}

async fn scene() -> (Upstream, TestEdge, Agent, String) {
    let upstream = Upstream::start().await;
    let edge = TestEdge::start(&upstream).await;
    let agent = Agent::enroll(&edge).await;
    let bearer = format!("Bearer {}", edge.owner_jwt("owner-1", &[]));
    (upstream, edge, agent, bearer)
}

fn enroll_start(bearer: &str, body: &str) -> Vec<u8> {
    let headers = [("Authorization", bearer), ("Content-Type", "application/json")];
    raw::request("POST", "/agent/enroll/start", &headers, body.as_bytes())
}

#[tokio::test]
async fn what_is_too_deep_too_wide_unknown_or_double_is_named_and_refused() {
    let (_upstream, edge, agent, bearer) = scene().await;
    for (body, told) in [
        (nested(17), "deep"),
        (members(1001), "too many members"),
        (r#"{"alias":"a","planted":"VALUE"}"#.to_owned(), "planted"),
        (r#"{"alias":"a","alias":"VALUE"}"#.to_owned(), "twice"),
        (r#"{"metadata":{"a":1,"a":"VALUE"}}"#.to_owned(), "twice"),
        (r#"{"alias":["VALUE"]}"#.to_owned(), "wrong type"),
        (r#"["VALUE"]"#.to_owned(), "object"),
        (r#"{"alias":"a"} VALUE"#.to_owned(), "after its end"),
        (r#"{"alias":"VALUE"#.to_owned(), ""),
    ] {
        for (what, bytes) in [
            ("an owner's", enroll_start(&bearer, &body)),
            (
                "an agent's",
                agent
                    .signed("POST", "/agent/session/start")
                    .content_type("application/json")
                    .body(body.clone())
                    .build(),
            ),
            ("a stranger's", raw::request("POST", "/agent/enroll/challenge", &[], body.as_bytes())),
        ] {
            let answer = edge.send(&bytes).await.expect(400).refused("request_malformed");
            let problem: Value = answer.json();
            let detail = problem["detail"].as_str().unwrap();
            // Another endpoint may find another fault first.
            assert!(what != "an owner's" || detail.contains(told), "{what} {body}: {detail}");
            assert!(!answer.text().contains("VALUE"), "{what} {body}: {detail}");
        }
    }
    // Right at the limits it is well.
    edge.send(&enroll_start(&bearer, &members(1000))).await.expect(200);
    let deepest = format!("{{\"metadata\":{{\"a\":{}{}}}}}", "[".repeat(14), "]".repeat(14));
    edge.send(&enroll_start(&bearer, &deepest)).await.expect(200);
    let deeper = format!("{{\"metadata\":{{\"a\":{}{}}}}}", "[".repeat(15), "]".repeat(15));
    edge.send(&enroll_start(&bearer, &deeper)).await.expect(400);
}

#[tokio::test]
async fn the_worst_json_is_refused_quickly() {
    let (_upstream, edge, _agent, _) = scene().await;
    let mut conn = edge.connect().await;
    for body in [
        "[".repeat(64 * 1024),
        format!("[{}0]", "0,".repeat(32 * 1024 - 2)),
        "{\"a\":".repeat(13_000),
        format!("{{\"enroll_code\":\"{}\"}}", "a".repeat(64 * 1024 - 18)),
        format!("{{\"enroll_code\":\"{}\"}}", "\\u0041".repeat(10_000)),
    ] {
        let bytes = raw::request("POST", "/agent/enroll/challenge", &[], body.as_bytes());
        let mut fastest = Duration::MAX;
        for _ in 0..10 {
            let since = Instant::now();
            let status = conn.exchange(&bytes).await.status();
            assert!(status == 400 || status == 401, "{status}");
            fastest = fastest.min(since.elapsed());
        }
        println!("{}…: {fastest:?}", &body[..20]);
        assert!(fastest < DEADLINE, "{fastest:?}");
    }
}

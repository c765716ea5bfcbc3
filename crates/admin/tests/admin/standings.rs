//! Whether agents may act, changed over real sockets.

use crate::common::{Asked, Place, Running};
use edgeward_admin::{AdminClient, StandingAnswer};
use edgeward_core::record::Standing;
use http::StatusCode;
use serde_json::json;

const ID: &str = "0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f";

fn path(verb: &str) -> String {
    format!("/agents/{ID}/{verb}")
}

fn answers(running: &Running, answer: Result<Option<StandingAnswer>, &str>) {
    *running.source.standing.lock().unwrap() = answer.map_err(str::to_owned);
}

fn asked(running: &Running) -> Vec<Asked> {
    std::mem::take(&mut running.source.asked.lock().unwrap())
}

#[tokio::test]
async fn a_change_is_asked_for_in_the_operators_name_and_told_as_it_came_out() {
    let place = Place::new();
    let running = place.start().await;
    let client = AdminClient::new(place.socket());
    for (verb, to, name) in [
        ("block", Standing::Blocked, "blocked"),
        ("unblock", Standing::Active, "active"),
        ("retire", Standing::Retired, "retired"),
    ] {
        let done = StandingAnswer::AsAsked { epoch: 4, changed: true, streams_cut: 2 };
        answers(&running, Ok(Some(done)));
        let (status, body) =
            client.post(&path(verb), &json!({ "reason": "ticket 7" })).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let stands = json!({
            "agent_id": ID, "standing": name, "epoch": 4, "changed": true, "streams_cut": 2
        });
        assert_eq!(body, stands);
        let (id, asked_for, by, reason) = asked(&running).pop().unwrap();
        assert_eq!((id.as_str(), asked_for, reason.as_deref()), (ID, to, Some("ticket 7")));
        assert!(by.starts_with("uid:"), "{by}");
    }
    let before = StandingAnswer::AsAsked { epoch: 3, changed: false, streams_cut: 0 };
    answers(&running, Ok(Some(before)));
    let (status, body) = client.post(&path("block"), &json!({})).await.unwrap();
    assert_eq!((status, &body["changed"]), (StatusCode::OK, &json!(false)));
    assert_eq!(asked(&running).pop().unwrap().3, None);
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_says_so() {
    let place = Place::new();
    let running = place.start().await;
    let headers = ["Content-Type: application/json", "Content-Length: 2"];
    for (answer, status, code, retry) in [
        (Ok(None), 404, "agent_unknown", None),
        (Ok(Some(StandingAnswer::Retired)), 409, "agent_retired", None),
        (Err("disk on fire"), 503, "dependency_unavailable", Some("1")),
    ] {
        answers(&running, answer);
        let line = format!("POST {}", path("block"));
        let refused = running.unix_with(&line, &headers, "{}").await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code));
        assert_eq!(refused.header("retry-after"), retry);
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert!(!refused.body.contains("fire"), "{}", refused.body);
    }
    assert_eq!(asked(&running).len(), 3);

    let upper = path("block").replace("5a6b", "5A6B");
    for id in ["/agents/me/block", upper.as_str(), "/agents/%ff/block"] {
        let refused = running.unix_with(&format!("POST {id}"), &headers, "{}").await;
        assert_eq!((refused.status, refused.code()), (400, "request_malformed".to_owned()), "{id}");
    }
    let method = running.unix(&format!("GET {}", path("block")), &[]).await;
    assert_eq!((method.status, method.header("allow")), (405, Some("POST")));
    assert_eq!(asked(&running), []);
    running.stop().await;
}

#[tokio::test]
async fn nobody_changes_anything_past_the_gate() {
    let place = Place::new();
    let running = place.start().await;
    let done = StandingAnswer::AsAsked { epoch: 4, changed: true, streams_cut: 2 };
    answers(&running, Ok(Some(done)));
    let line = format!("POST {}", path("block"));
    let bearer = format!("Authorization: Bearer {}", place.token());
    let foreign = "Host: rebound.example";
    let host = format!("Host: 127.0.0.1:{}", running.port);
    let body = ["Content-Type: application/json", "Content-Length: 2"];
    for (headers, status, code) in [
        (vec![host.as_str()], 401, "credentials_missing"),
        (vec![&host, "Authorization: Bearer ewop_x"], 401, "token_invalid"),
        (vec![&host, &bearer, "Origin: http://localhost"], 403, "origin_refused"),
        (vec![foreign, &bearer], 421, "host_not_ours"),
    ] {
        let refused = running.tcp_with(&line, &[&headers, &body[..]].concat(), "{}").await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code));
        assert_eq!(asked(&running), []);
    }
    let headers = [&[host.as_str(), bearer.as_str()], &body[..]].concat();
    assert_eq!(running.tcp_with(&line, &headers, "{}").await.status, 200);
    let by = asked(&running).pop().unwrap().2;
    assert!(by.starts_with("token:") && by.len() == 14, "{by}");
    running.stop().await;
}

#[tokio::test]
async fn a_body_without_a_length_ends_at_the_limit() {
    let place = Place::new();
    let running = place.start().await;
    let chunk = "x".repeat(0x11000);
    let body = format!("11000\r\n{chunk}\r\n0\r\n\r\n");
    let headers = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
    let refused = running.unix_with(&format!("POST {}", path("block")), &headers, &body).await;
    assert_eq!((refused.status, refused.code()), (413, "body_too_large".to_owned()));
    assert_eq!(asked(&running), []);
    running.stop().await;
}

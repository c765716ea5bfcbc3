//! Who is let in over real sockets, and what is answered.

use std::time::Duration;

use crate::common::{DEADLINE, Place, Running};
use edgeward_admin::{AdminClient, Check, ClientError, OperatorToken};
use http::StatusCode;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

#[tokio::test]
async fn over_tcp_only_the_token_lets_in() {
    let place = Place::new();
    let running = place.start().await;
    let token = place.token();

    for path in ["/healthz", "/readyz", "/status", "/no-such-route"] {
        let line = format!("GET {path}");
        let none = running.tcp(&line, &[]).await;
        assert_eq!((none.status, none.code()), (401, "credentials_missing".to_owned()));
        assert_eq!(none.header("www-authenticate"), Some(r#"Bearer realm="edgeward-admin""#));
        assert_eq!(none.header("content-type"), Some("application/problem+json"));
        assert_eq!(none.header("x-trace-id"), none.json()["trace_id"].as_str());

        let wrong = format!("Authorization: Bearer ewop_{}", "A".repeat(43));
        let wrong = running.tcp(&line, &[&wrong]).await;
        assert_eq!((wrong.status, wrong.code()), (401, "token_invalid".to_owned()));
        assert!(wrong.header("www-authenticate").unwrap().contains("invalid_token"));

        let cookie = running.tcp(&line, &[&format!("Cookie: token={token}")]).await;
        assert_eq!(cookie.status, 401);
    }
    let bearer = format!("Authorization: Bearer {token}");
    let health = running.tcp("GET /healthz", &[&bearer]).await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("alive")));
    assert_eq!(health.header("cache-control"), Some("no-store"));
    running.stop().await;
}

#[tokio::test]
async fn over_the_socket_the_own_user_needs_no_token() {
    let place = Place::new();
    let running = place.start().await;
    let status = running.unix("GET /status", &[]).await;
    assert_eq!(status.status, 200);
    let body = status.json();
    assert_eq!(body["version"], "1.2.3");
    assert_eq!(body["admitted"], 7);
    assert_eq!(body["refused_by_code"]["nonce_replayed"], 2);
    assert_eq!(body["p50_us"], 90);
    assert!(body["p95_us"].is_null());
    running.stop().await;
}

#[tokio::test]
async fn a_foreign_host_is_refused_before_the_token_is_looked_at() {
    let place = Place::new();
    let running = place.start().await;
    let bearer = format!("Authorization: Bearer {}", place.token());
    let foreign = format!("Host: rebound.example:{}", running.port);
    for credentials in [&[foreign.as_str()][..], &[foreign.as_str(), &bearer][..]] {
        let refused = running.tcp_raw("GET /status", credentials).await;
        assert_eq!((refused.status, refused.code()), (421, "host_not_ours".to_owned()));
    }
    let absolute = running.tcp("GET http://rebound.example/status", &[&bearer]).await;
    assert_eq!(absolute.status, 421);
    let none = running.tcp_raw("GET /status", &[&bearer]).await;
    assert_eq!(none.status, 400);
    running.stop().await;
}

#[tokio::test]
async fn a_web_page_cannot_write() {
    let place = Place::new();
    let running = place.start().await;
    let bearer = format!("Authorization: Bearer {}", place.token());
    let origin = format!("Origin: http://127.0.0.1:{}", running.port);
    let refused = running.tcp("POST /status", &[&bearer, &origin]).await;
    assert_eq!((refused.status, refused.code()), (403, "origin_refused".to_owned()));
    let refused = running.unix("POST /status", &["Origin: null"]).await;
    assert_eq!(refused.status, 403);
    assert_eq!(running.tcp("GET /status", &[&bearer, &origin]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let place = Place::new();
    let running = place.start().await;
    let unknown = running.unix("GET /no-such-route", &[]).await;
    assert_eq!((unknown.status, unknown.code()), (404, "route_unknown".to_owned()));
    let method = running.unix("DELETE /status", &[]).await;
    assert_eq!((method.status, method.code()), (405, "method_not_allowed".to_owned()));
    assert_eq!(method.header("allow"), Some("GET,HEAD"));
    let large = running.unix("POST /status", &["Content-Length: 70000"]).await;
    assert_eq!((large.status, large.code()), (413, "body_too_large".to_owned()));
    running.stop().await;
}

#[tokio::test]
async fn readiness_is_what_the_source_says() {
    let place = Place::new();
    let running = place.start().await;
    let ready = running.unix("GET /readyz", &[]).await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));

    let waits = Check::failed("replay_floor", "800 ms to go");
    running.source.checks.lock().unwrap().push(waits);
    let waits = running.unix("GET /readyz", &[]).await;
    assert_eq!((waits.status, waits.json()["ready"].as_bool()), (503, Some(false)));
    assert_eq!(waits.json()["checks"][1]["name"], "replay_floor");
    assert_eq!(waits.json()["checks"][1]["detail"], "800 ms to go");
    assert_eq!(running.unix("GET /healthz", &[]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_arrive_ends_the_connection() {
    let place = Place::new();
    let server = place.bind().await.unwrap().with_head_timeout(Duration::from_millis(200));
    let running = Running::over(server);
    let mut stream = TcpStream::connect(("127.0.0.1", running.port)).await.unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: ").await.unwrap();
    let mut rest = Vec::new();
    // Well under the HTTP library's own 30 s.
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_refusal_ends_the_connection() {
    let place = Place::new();
    let running = place.start().await;
    let mut stream = TcpStream::connect(("127.0.0.1", running.port)).await.unwrap();
    let call = format!("GET /status HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", running.port);
    stream.write_all(call.repeat(2).as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    // What was not read makes the close a reset on some systems.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answers)).await.unwrap();
    assert_eq!(String::from_utf8(answers).unwrap().matches("HTTP/1.1 401").count(), 1);
    running.stop().await;
}

#[tokio::test]
async fn the_client_takes_the_socket_first_and_the_url_where_nobody_answers() {
    let place = Place::new();
    let running = place.start().await;
    let token = OperatorToken::from_file(&place.token_file()).unwrap();
    let url = format!("http://localhost:{}", running.port);

    let client = AdminClient::new(place.socket());
    let (status, body) = client.get("/status").await.unwrap();
    assert_eq!((status, body["version"].as_str()), (StatusCode::OK, Some("1.2.3")));
    let (status, body) = client.get("/nothing").await.unwrap();
    assert_eq!((status, body["code"].as_str()), (StatusCode::NOT_FOUND, Some("route_unknown")));

    let elsewhere = AdminClient::new(place.socket().with_file_name("none.sock"));
    let unreachable = elsewhere.get("/status").await.unwrap_err().to_string();
    assert!(unreachable.contains("none.sock") && unreachable.contains("running"), "{unreachable}");
    let (status, _) =
        elsewhere.clone().with_url(&url, token.clone()).unwrap().get("/status").await.unwrap();
    assert_eq!(status, StatusCode::OK);

    let wrong = OperatorToken::parse(&format!("ewop_{}", "A".repeat(43))).unwrap();
    let (status, body) =
        elsewhere.clone().with_url(&url, wrong).unwrap().get("/status").await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["code"], "token_invalid");

    for away in ["http://edge.example:8601", "https://localhost:1", "http://a@localhost:1", "x"] {
        let refused = elsewhere.clone().with_url(away, token.clone()).unwrap_err();
        assert!(matches!(refused, ClientError::Url), "{away}");
    }
    assert!(!format!("{:?}", elsewhere.with_url(&url, token).unwrap()).contains(&place.token()));
    running.stop().await;
}

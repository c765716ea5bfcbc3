//! Signed calls, and what refusals lead to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::time::Duration;

use edgeward_client::clock::Clock as _;
use edgeward_client::{Error, SignedBy};
use edgeward_wire::Code;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;
use support::{FakeClock, Reply, START_MS, Scene, soon};

fn text_headers() -> HeaderMap {
    HeaderMap::from_iter([(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    )])
}

async fn get(scene: &Scene) -> edgeward_client::Result<edgeward_client::Response> {
    soon(scene.agent.call(Method::GET, "/v1/x", HeaderMap::new(), "")).await
}

async fn post(scene: &Scene) -> edgeward_client::Result<edgeward_client::Response> {
    soon(scene.agent.call(Method::POST, "/v1/x", text_headers(), "body")).await
}

#[tokio::test]
async fn a_call_is_signed_over_the_bytes_that_are_sent() {
    let scene = Scene::new(|_, _| None).await;
    let agent = &scene.agent;
    for (method, target, body) in [
        (Method::GET, "/v1/x", ""),
        (Method::GET, "/v1/a%20b/?q=%C3%A9&p=/../y//z;w", ""),
        (Method::POST, "/v1/x?", "{\"a\":1}"),
        (Method::PUT, "/v1/x", "bytes"),
        (Method::DELETE, "/v1/x", ""),
    ] {
        let answer = soon(agent.call(method, target, text_headers(), body)).await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), "ok");
    }
    let seen = scene.edge.seen();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[1].target, "/base/v1/a%20b/?q=%C3%A9&p=/../y//z;w");
    assert_eq!(seen[2].target, "/base/v1/x?");
    assert!(seen.iter().all(|seen| seen.header("authorization") == "Bearer jwt.of.start"));
    scene.edge.check_signatures();
}

#[tokio::test]
async fn what_cannot_be_sent_as_it_is_is_not_sent_at_all() {
    let scene = Scene::new(|_, _| None).await;
    for target in ["/a/../b", "//x", "/a;b", "/%41", "/a<b", "/a#b", "v1"] {
        let refused =
            soon(scene.agent.call(Method::GET, target, HeaderMap::new(), "")).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid(_)), "{target}");
    }
    let own = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-session-id"),
        HeaderValue::from_static("x"),
    )]);
    assert!(soon(scene.agent.call(Method::GET, "/", own, "")).await.is_err());
    assert_eq!(scene.edge.seen().len(), 0);
}

#[tokio::test]
async fn nonces_never_repeat_not_even_when_a_call_is_sent_again() {
    let scene =
        Scene::new(|_, nth| if nth % 2 == 0 { Reply::refusal(Code::NonceRequired) } else { None })
            .await;
    for _ in 0..20 {
        post(&scene).await.unwrap();
    }
    assert_eq!(scene.edge.seen().len(), 40);
    scene.edge.check_signatures();
}

#[tokio::test]
async fn waiting_honours_the_edge_and_ends() {
    for code in [Code::RateLimited, Code::Starting, Code::DependencyUnavailable] {
        let scene =
            Scene::new(move |_, _| Some(Reply::Refusal(code, json!({"retry_after_ms": 700}))))
                .await;
        let error = post(&scene).await.unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert_eq!(scene.edge.seen().len(), 4, "{code}");
        let waits = scene.clock.waits();
        assert_eq!(waits.len(), 3, "{code}");
        let bounds = Duration::from_millis(700)..=Duration::from_millis(1050);
        assert!(waits.iter().all(|wait| bounds.contains(wait)), "{waits:?}");
        scene.edge.check_signatures();
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_handed_back_at_once() {
    let scene = Scene::new(|_, _| {
        Some(Reply::Refusal(Code::BackingOff, json!({"retry_after_ms": 900_000})))
    })
    .await;
    let error = get(&scene).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().retry_after_ms, Some(900_000));
    assert_eq!((scene.edge.seen().len(), scene.clock.waits().len()), (1, 0));
}

#[tokio::test]
async fn what_an_upstream_may_have_seen_is_sent_again_only_if_idempotent() {
    for code in [Code::UpstreamFailed, Code::UpstreamTimeout, Code::NonceReplayed] {
        let script =
            move |_: &support::Seen, nth| if nth == 0 { Reply::refusal(code) } else { None };
        let scene = Scene::new(script).await;
        get(&scene).await.unwrap();
        assert_eq!(scene.edge.seen().len(), 2, "{code}");
        let scene = Scene::new(script).await;
        assert_eq!(post(&scene).await.unwrap_err().code(), Some(code));
        assert_eq!(scene.edge.seen().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_problem_without_the_edges_header_is_the_upstreams_and_not_acted_upon() {
    for code in Code::ALL {
        let code = *code;
        let scene = Scene::new(move |_, _| {
            let problem = json!({
                "type": "x", "title": "x", "status": code.status().as_u16(), "code": code.as_str(),
                "trace_id": "09090909090909090909090909090909", "retry_after_ms": 1,
                "server_time_ms": START_MS + 60_000,
            });
            let headers = vec![("content-type", "application/problem+json".to_owned())];
            Some(Reply::Plain(code.status().as_u16(), headers, problem.to_string()))
        })
        .await;
        let answer = get(&scene).await.unwrap();
        assert_eq!(answer.status(), code.status());
        assert_eq!(scene.edge.lines(), ["GET /v1/x"], "{code}");
        assert!(scene.clock.waits().is_empty());
    }
}

#[tokio::test]
async fn refusals_that_no_client_can_help_are_handed_back_at_once() {
    for code in [
        Code::SignatureInvalid,
        Code::AgentBlocked,
        Code::ScopeMissing,
        Code::RouteUnknown,
        Code::RequestMalformed,
        Code::CredentialsMissing,
    ] {
        let scene = Scene::new(move |_, _| Reply::refusal(code)).await;
        let error = get(&scene).await.unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert!(error.to_string().contains("09090909090909090909090909090909"), "{error}");
        assert_eq!(scene.edge.lines(), ["GET /v1/x"], "{code}");
    }
}

#[tokio::test]
async fn a_refusal_of_head_is_known_by_its_header() {
    let scene = Scene::new(|_, _| Reply::refusal(Code::ScopeMissing)).await;
    let error =
        soon(scene.agent.call(Method::HEAD, "/v1/x", HeaderMap::new(), "")).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::ScopeMissing));
    let trace_id = error.refusal().unwrap().trace_id.as_deref();
    assert_eq!(trace_id, Some("09090909090909090909090909090909"));
}

#[tokio::test]
async fn without_a_body_the_headers_say_how_long_to_wait() {
    let scene = Scene::new(|_, nth| {
        let headers =
            vec![("x-edgeward-code", "draining".to_owned()), ("retry-after", "2".to_owned())];
        (nth == 0).then(|| Reply::Plain(503, headers, String::new()))
    })
    .await;
    post(&scene).await.unwrap();
    let waits = scene.clock.waits();
    assert_eq!(waits.len(), 1);
    assert!(waits[0] >= Duration::from_secs(2), "{waits:?}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let scene = Scene::new(|_, _| {
        Some(Reply::Plain(307, vec![("location", "/base/elsewhere".to_owned())], String::new()))
    })
    .await;
    assert_eq!(get(&scene).await.unwrap().status(), 307);
    assert_eq!(scene.edge.seen().len(), 1);
}

fn off_by(ms: u64) -> Option<Reply> {
    Some(Reply::Refusal(Code::TimestampOutsideWindow, json!({"server_time_ms": START_MS + ms})))
}

#[tokio::test]
async fn the_clock_is_corrected_by_the_edges_and_stays_so() {
    let scene = Scene::new(|_, nth| if nth == 0 { off_by(120_000) } else { None }).await;
    get(&scene).await.unwrap();
    get(&scene).await.unwrap();
    let stamps: Vec<u64> =
        scene.edge.seen().iter().map(|seen| seen.header("x-timestamp").parse().unwrap()).collect();
    assert_eq!(stamps, [START_MS, START_MS + 120_000, START_MS + 120_000]);
    scene.edge.check_signatures();
}

#[tokio::test]
async fn the_clock_is_corrected_once_for_a_call() {
    let scene = Scene::new(|_, nth| off_by(60_000 * (nth as u64 + 1))).await;
    let error = get(&scene).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::TimestampOutsideWindow));
    assert_eq!(scene.edge.seen().len(), 2);
}

#[tokio::test]
async fn the_clock_is_never_corrected_beyond_the_bound_nor_step_by_step() {
    let scene = Scene::new(|_, _| off_by(300_001)).await;
    let error = get(&scene).await.unwrap_err();
    assert!(matches!(error, Error::ClockSkew { skew_ms: 300_001, bound_ms: 300_000 }), "{error}");
    assert_eq!(scene.edge.seen().len(), 1);
    // Two steps within the bound that together lie beyond it.
    let scene = Scene::new(|_, nth| match nth {
        0 => off_by(200_000),
        1 => None,
        _ => off_by(400_000),
    })
    .await;
    get(&scene).await.unwrap();
    assert!(matches!(get(&scene).await, Err(Error::ClockSkew { .. })));
}

#[tokio::test]
async fn an_operator_can_forbid_correcting_the_clock() {
    let adjust = |settings: &mut edgeward_client::Settings| {
        settings.max_clock_correction = Duration::ZERO;
    };
    let scene = Scene::with(FakeClock::hurrying(), adjust, |_, _| off_by(1000)).await;
    assert!(matches!(get(&scene).await, Err(Error::ClockSkew { .. })));
    assert_eq!(scene.edge.seen().len(), 1);
}

#[tokio::test]
async fn no_other_refusal_touches_the_clock() {
    let scene = Scene::new(|_, nth| {
        let later = json!({"server_time_ms": START_MS + 60_000});
        (nth == 0).then(|| Reply::Refusal(Code::NonceReplayed, later))
    })
    .await;
    get(&scene).await.unwrap();
    let stamp = scene.edge.seen()[1].header("x-timestamp").to_owned();
    assert_eq!(stamp, scene.clock.now_ms().to_string());
}

#[tokio::test]
async fn a_session_is_started_when_the_edge_asks_for_one_and_kept() {
    let scene = Scene::new(|seen, _| {
        let sessionless = seen.path() == "/v1/x" && seen.header("x-session-id").is_empty();
        if sessionless { Reply::refusal(Code::SessionRequired) } else { None }
    })
    .await;
    post(&scene).await.unwrap();
    post(&scene).await.unwrap();
    let lines = scene.edge.lines();
    assert_eq!(lines, ["POST /v1/x", "POST /agent/session/start", "POST /v1/x", "POST /v1/x"]);
    scene.edge.check_signatures();
}

#[tokio::test]
async fn a_session_is_started_once_for_a_call() {
    let scene = Scene::new(|seen, _| {
        if seen.path() == "/v1/x" { Reply::refusal(Code::SessionInvalid) } else { None }
    })
    .await;
    assert_eq!(post(&scene).await.unwrap_err().code(), Some(Code::SessionInvalid));
    assert_eq!(scene.edge.lines(), ["POST /v1/x", "POST /agent/session/start", "POST /v1/x"]);
}

#[tokio::test]
async fn a_refused_token_is_refreshed_once_for_a_call() {
    let scene = Scene::new(|seen, _| {
        let old = seen.header("authorization") == "Bearer jwt.of.start";
        if old { Reply::refusal(Code::TokenInvalid) } else { None }
    })
    .await;
    post(&scene).await.unwrap();
    assert_eq!(scene.edge.lines(), ["POST /v1/x", "POST /agent/token/refresh", "POST /v1/x"]);
    assert_eq!(scene.edge.seen()[1].header("authorization"), "", "a refused token is not sent");
    scene.edge.check_signatures();
    let scene =
        Scene::new(
            |seen, _| {
                if seen.path() == "/v1/x" { Reply::refusal(Code::TokenInvalid) } else { None }
            },
        )
        .await;
    assert_eq!(post(&scene).await.unwrap_err().code(), Some(Code::TokenInvalid));
    assert_eq!(scene.edge.seen().len(), 3);
}

#[tokio::test]
async fn a_session_start_whose_token_is_refused_refreshes_it_first() {
    let scene = Scene::new(|seen, _| {
        let old = seen.header("authorization") == "Bearer jwt.of.start";
        if old { Reply::refusal(Code::TokenInvalid) } else { None }
    })
    .await;
    soon(scene.agent.open_session()).await.unwrap();
    assert_eq!(
        scene.edge.lines(),
        ["POST /agent/session/start", "POST /agent/token/refresh", "POST /agent/session/start"]
    );
    scene.edge.check_signatures();
}

#[tokio::test]
async fn an_edge_that_is_not_there_is_the_networks_fault() {
    let scene = Scene::new(|_, _| None).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut credentials = scene.agent.credentials();
    credentials.edge_url =
        edgeward_client::EdgeUrl::parse(&format!("http://{}", listener.local_addr().unwrap()))
            .unwrap();
    drop(listener);
    let device = credentials.read_device_key(scene.path.parent().unwrap()).unwrap();
    let settings = support::settings(scene.clock.clone(), |_| {});
    let agent = edgeward_client::Agent::new(credentials, device, settings).unwrap();
    let error = soon(agent.call(Method::GET, "/", HeaderMap::new(), "")).await.unwrap_err();
    assert!(error.is_network(), "{error}");
}

#[tokio::test]
async fn an_edge_that_never_answers_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scene = Scene::new(|_, _| None).await;
    let mut credentials = scene.agent.credentials();
    credentials.edge_url =
        edgeward_client::EdgeUrl::parse(&format!("http://{}", listener.local_addr().unwrap()))
            .unwrap();
    let device = credentials.read_device_key(scene.path.parent().unwrap()).unwrap();
    let settings = support::settings(scene.clock.clone(), |settings| {
        settings.head_timeout = Duration::from_millis(50);
    });
    let agent = edgeward_client::Agent::new(credentials, device, settings).unwrap();
    let error = soon(agent.call(Method::GET, "/", HeaderMap::new(), "")).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after_ms: 50 }), "{error}");
    assert!(error.is_network());
}

#[tokio::test]
async fn signing_alone_sends_nothing_and_signs_the_same() {
    let scene = Scene::new(|_, _| None).await;
    let signed = scene.agent.sign(&Method::POST, "/v1/x?a=b", &text_headers(), b"body").unwrap();
    assert_eq!(scene.edge.seen().len(), 0);
    assert_eq!(signed.signed_by, SignedBy::Secret);
    assert_eq!(signed.url, scene.edge.url("/base/v1/x?a=b"));
    let mut lines = signed.string_to_sign.expose().split('\n');
    assert_eq!(lines.nth(7), Some("/base/v1/x?a=b"));
    assert_eq!(signed.string_to_sign.line_hashes().len(), 10);
    soon(scene.agent.open_session()).await.unwrap();
    let signed = scene.agent.sign(&Method::GET, "/v1/x", &HeaderMap::new(), b"").unwrap();
    assert_eq!(signed.signed_by, SignedBy::Session);
    assert!(signed.headers.contains_key("x-session-id"));
}

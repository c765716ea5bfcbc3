//! Sessions, tokens and secrets, kept fresh by a clock that the tests turn.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use edgeward_client::{Agent, Credentials, Error, Rotation};
use edgeward_wire::Code;
use http::{HeaderMap, Method};
use serde_json::json;
use support::{DAY_MS, Edge, Reply, START_MS, Scene, settings, soon};

async fn call(agent: &Agent) -> edgeward_client::Result<()> {
    soon(agent.call(Method::GET, "/v1/x", HeaderMap::new(), "")).await.map(drop)
}

#[tokio::test]
async fn a_session_is_extended_when_two_thirds_of_its_time_are_over() {
    let scene = Scene::new(|_, _| None).await;
    soon(scene.agent.open_session()).await.unwrap();
    scene.clock.advance(399_999);
    call(&scene.agent).await.unwrap();
    assert_eq!(scene.edge.lines(), ["POST /agent/session/start", "GET /v1/x"]);
    scene.clock.advance(1);
    call(&scene.agent).await.unwrap();
    call(&scene.agent).await.unwrap();
    let lines = scene.edge.lines();
    assert_eq!(lines[2..], ["POST /agent/session/extend", "GET /v1/x", "GET /v1/x"]);
    assert_eq!(scene.agent.session().unwrap().ends_at_ms, START_MS + 400_000 + 600_000);
    scene.edge.check_signatures();
}

#[tokio::test]
async fn a_session_that_is_gone_is_started_anew() {
    let scene = Scene::new(|_, _| None).await;
    soon(scene.agent.open_session()).await.unwrap();
    scene.clock.advance(600_000);
    assert!(scene.agent.session().is_none());
    call(&scene.agent).await.unwrap();
    assert_eq!(scene.edge.lines()[1..], ["POST /agent/session/start", "GET /v1/x"]);
    scene.edge.check_signatures();
}

#[tokio::test]
async fn a_session_that_the_edge_has_forgotten_is_started_anew_at_its_extension() {
    let scene = Scene::new(|seen, _| {
        if seen.path() == "/agent/session/extend" {
            return Reply::refusal(Code::SessionInvalid);
        }
        None
    })
    .await;
    soon(scene.agent.open_session()).await.unwrap();
    scene.clock.advance(400_000);
    call(&scene.agent).await.unwrap();
    assert_eq!(
        scene.edge.lines()[1..],
        ["POST /agent/session/extend", "POST /agent/session/start", "GET /v1/x"]
    );
    scene.edge.check_signatures();
}

#[tokio::test]
async fn a_session_at_its_maximum_is_followed_by_a_new_one_before_it_ends() {
    let scene = Scene::new(|seen, _| {
        (seen.path() == "/agent/session/extend").then(|| {
            let maximum = START_MS + 1_500_000;
            Reply::Json(200, json!({"ttl_ms": 300_000, "expires_at_ms": maximum}))
        })
    })
    .await;
    soon(scene.agent.open_session()).await.unwrap();
    scene.clock.advance(400_000);
    call(&scene.agent).await.unwrap();
    scene.clock.advance(199_999);
    call(&scene.agent).await.unwrap();
    scene.clock.advance(1);
    call(&scene.agent).await.unwrap();
    assert_eq!(
        scene.edge.lines()[1..],
        [
            "POST /agent/session/extend",
            "GET /v1/x",
            "GET /v1/x",
            "POST /agent/session/start",
            "GET /v1/x"
        ]
    );
}

#[tokio::test]
async fn an_extension_that_fails_is_left_for_later_while_the_session_lives() {
    let scene = Scene::new(|seen, nth| {
        if seen.path() == "/agent/session/extend" && nth == 0 {
            return Reply::refusal(Code::BodyTooLarge);
        }
        None
    })
    .await;
    soon(scene.agent.open_session()).await.unwrap();
    scene.clock.advance(400_000);
    call(&scene.agent).await.unwrap();
    call(&scene.agent).await.unwrap();
    scene.clock.advance(5_000);
    call(&scene.agent).await.unwrap();
    assert_eq!(
        scene.edge.lines()[1..],
        [
            "POST /agent/session/extend",
            "GET /v1/x",
            "GET /v1/x",
            "POST /agent/session/extend",
            "GET /v1/x"
        ]
    );
}

#[tokio::test]
async fn many_calls_at_once_renew_once() {
    let scene = Scene::new(|_, _| None).await;
    soon(scene.agent.open_session()).await.unwrap();
    scene.clock.advance(400_000);
    let calls = (0..16).map(|_| call(&scene.agent));
    for done in futures_util::future::join_all(calls).await {
        done.unwrap();
    }
    let extended = scene.edge.lines().iter().filter(|line| line.contains("extend")).count();
    assert_eq!((extended, scene.edge.seen().len()), (1, 18));
    scene.edge.check_signatures();
}

#[tokio::test]
async fn many_calls_refused_at_once_start_one_session() {
    let scene = Scene::new(|seen, _| {
        let sessionless = seen.path() == "/v1/x" && seen.header("x-session-id").is_empty();
        if sessionless { Reply::refusal(Code::SessionRequired) } else { None }
    })
    .await;
    let calls = (0..16).map(|_| call(&scene.agent));
    for done in futures_util::future::join_all(calls).await {
        done.unwrap();
    }
    let started = scene.edge.lines().iter().filter(|line| line.contains("start")).count();
    assert_eq!(started, 1);
}

#[tokio::test]
async fn a_session_is_kept_for_the_next_program_and_can_be_ended() {
    let scene = Scene::new(|_, _| None).await;
    let session = soon(scene.agent.open_session()).await.unwrap();
    let next = Agent::open(&scene.path, settings(scene.clock.clone(), |_| {})).unwrap();
    call(&next).await.unwrap();
    assert_eq!(scene.edge.seen()[1].header("x-session-id"), session.id.expose());
    assert!(soon(next.end_session()).await.unwrap());
    assert!(!soon(next.end_session()).await.unwrap());
    assert!(Credentials::read(&scene.path).unwrap().session.is_none());
    let lines = scene.edge.lines();
    assert_eq!(lines[2..], ["POST /agent/session/end"]);
    assert_eq!(scene.edge.seen()[2].header("authorization"), "", "no JWT is asked for here");
    scene.edge.check_signatures();
}

#[tokio::test]
async fn a_token_is_refreshed_at_80_percent_by_the_secret_or_by_the_session() {
    let scene = Scene::new(|_, _| None).await;
    scene.clock.advance(2_879_999);
    call(&scene.agent).await.unwrap();
    scene.clock.advance(1);
    call(&scene.agent).await.unwrap();
    let seen = scene.edge.seen();
    assert_eq!(scene.edge.lines(), ["GET /v1/x", "POST /agent/token/refresh", "GET /v1/x"]);
    assert_eq!(seen[1].header("x-session-id"), "");
    let refreshed = format!("Bearer jwt.of.{}", START_MS + 2_880_000);
    assert_eq!(seen[2].header("authorization"), refreshed);
    // The second time a session is held.
    scene.clock.advance(2_870_000);
    let session = soon(scene.agent.open_session()).await.unwrap();
    scene.clock.advance(10_000);
    call(&scene.agent).await.unwrap();
    let seen = scene.edge.seen();
    assert_eq!(scene.edge.lines()[4], "POST /agent/token/refresh");
    assert_eq!(seen[4].header("x-session-id"), session.id.expose());
    assert_eq!(seen[4].body, "{}");
    scene.edge.check_signatures();
}

#[tokio::test]
async fn an_expired_token_is_never_sent() {
    let scene = Scene::new(|seen, _| {
        let refresh = seen.path() == "/agent/token/refresh";
        if refresh { Reply::refusal(Code::BodyTooLarge) } else { None }
    })
    .await;
    scene.clock.advance(3_600_000);
    call(&scene.agent).await.unwrap();
    assert_eq!(scene.edge.seen()[1].header("authorization"), "");
}

#[tokio::test]
async fn an_edge_without_rotation_is_asked_once_and_not_again_for_a_day() {
    let scene = Scene::new(|_, _| None).await;
    scene.clock.advance(72 * DAY_MS - 1);
    call(&scene.agent).await.unwrap();
    scene.clock.advance(1);
    for _ in 0..3 {
        call(&scene.agent).await.unwrap();
    }
    let rotations =
        |scene: &Scene| scene.edge.lines().iter().filter(|line| line.contains("rotate")).count();
    assert_eq!(rotations(&scene), 1);
    scene.clock.advance(DAY_MS);
    call(&scene.agent).await.unwrap();
    assert_eq!(rotations(&scene), 2);
    let asked = soon(scene.agent.rotate_secret()).await.unwrap();
    assert_eq!(asked, Rotation::NotAvailable);
}

#[tokio::test]
async fn a_secret_is_rotated_at_80_percent_kept_before_it_is_used_and_sessions_go_on() {
    let scene = Scene::new(|seen, _| match seen.path() {
        "/agent/secret/rotate" => Edge::rotated(2),
        // The session of this test outlives the rotation.
        "/agent/session/extend" => {
            Some(Reply::Json(200, json!({"ttl_ms": 600_000, "expires_at_ms": START_MS})))
        }
        _ => None,
    })
    .await;
    scene.clock.advance(72 * DAY_MS - 1);
    let session = soon(scene.agent.open_session()).await.unwrap();
    let old = scene.agent.credentials().agent_secret;
    scene.clock.advance(1);
    call(&scene.agent).await.unwrap();
    let kept = Credentials::read(&scene.path).unwrap();
    assert_eq!(kept.secret_version, 2);
    assert_ne!(kept.agent_secret, old);
    assert_eq!(scene.agent.credentials().agent_secret, kept.agent_secret);
    let lines = scene.edge.lines();
    let rotated = lines.iter().position(|line| line == "POST /agent/secret/rotate").unwrap();
    let seen = scene.edge.seen();
    assert_eq!(seen[rotated].header("x-session-id"), "");
    assert_eq!(seen[rotated].header("authorization"), "");
    assert_eq!(seen[rotated + 1].header("x-session-id"), session.id.expose());
    // The next session is signed for by the new secret.
    soon(scene.agent.open_session()).await.unwrap();
    call(&scene.agent).await.unwrap();
    scene.edge.check_signatures();
}

#[tokio::test]
async fn a_new_secret_that_cannot_be_kept_is_not_used() {
    let scene = Scene::new(|seen, _| match seen.path() {
        "/agent/secret/rotate" => Edge::rotated(2),
        _ => None,
    })
    .await;
    std::fs::remove_dir_all(scene.path.parent().unwrap()).unwrap();
    let old = scene.agent.credentials().agent_secret;
    let error = soon(scene.agent.rotate_secret()).await.unwrap_err();
    assert!(matches!(error, Error::Local { .. }), "{error}");
    let held = scene.agent.credentials();
    assert_eq!((held.agent_secret, held.secret_version), (old, 1));
}

//! From a code to credentials on disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use edgeward_client::{Agent, Credentials, Enrollment, Error, Settings};
use edgeward_wire::enroll::enroll_message;
use edgeward_wire::{AgentId, AgentSecret, Challenge, Code, DevicePublicKey, EnrollCode, OwnerId};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use support::{AUDIENCE, Edge, FakeClock, Reply, START_MS, Seen, soon};

const CODE: &str = "ABCD-EFGH-JKMN";

fn agent_id() -> AgentId {
    AgentId::new_v7(START_MS, [7; 10])
}

fn secret() -> AgentSecret {
    AgentSecret::from_random(&[1; 32])
}

fn challenge() -> Challenge {
    Challenge::from_random(&[5; 32])
}

/// Answers an enrolment as an edge does: only to a right signature over the right message.
fn enrolling(seen: &Seen, _: usize) -> Option<Reply> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    match seen.path() {
        "/agent/enroll/challenge" => Some(Reply::Json(
            200,
            json!({"challenge": challenge(), "expires_in_sec": 600, "owner_user_id": "owner-1", "scopes": []}),
        )),
        "/agent/enroll/complete" => {
            let code = EnrollCode::parse(body["enroll_code"].as_str().unwrap()).unwrap();
            assert_eq!(code, EnrollCode::parse(CODE).unwrap());
            let key = DevicePublicKey::read(&body["public_key"]).unwrap();
            let message = enroll_message(AUDIENCE, &code, &challenge(), &key.thumbprint());
            if !key.accepts(message.as_bytes(), body["signature"].as_str().unwrap()) {
                return Reply::refusal(Code::EnrollCodeInvalid);
            }
            assert_eq!(body["alias"], "printer");
            Some(Reply::Json(
                200,
                json!({
                    "agent_id": agent_id(), "agent_secret": secret(), "secret_version": 1,
                    "secret_expires_at_ms": START_MS + 90 * support::DAY_MS,
                    "agent_jwt": "first.jwt", "jwt_expires_in_sec": 3600,
                    "owner_user_id": "owner-1", "scopes": ["llm:chat"], "audience": AUDIENCE,
                }),
            ))
        }
        _ => None,
    }
}

struct Setting {
    edge: Edge,
    clock: Arc<FakeClock>,
    folder: tempfile::TempDir,
}

async fn setting() -> Setting {
    let clock = FakeClock::hurrying();
    // Which key enrols is not known yet: proofs are checked where the key comes along.
    let any = DevicePublicKey::Ed25519([2; 32]);
    let edge = Edge::start(agent_id(), secret(), any, clock.clone(), enrolling).await;
    Setting { edge, clock, folder: tempfile::tempdir().unwrap() }
}

impl Setting {
    fn enrollment(&self) -> Enrollment {
        let mut enrollment = Enrollment::new(&self.edge.url("/base/"), "abcd-efgh-jkmn").unwrap();
        enrollment.audience = AUDIENCE.to_owned();
        enrollment.alias = Some("printer".to_owned());
        enrollment
    }

    fn settings(&self) -> Settings {
        support::settings(self.clock.clone(), |_| {})
    }

    async fn enroll(&self, enrollment: Enrollment, path: &Path) -> Result<Agent, Error> {
        soon(Agent::enroll(enrollment, path, self.settings())).await
    }
}

#[tokio::test]
async fn an_enrolment_leaves_one_private_file_that_calls_can_be_made_with() {
    let setting = setting().await;
    let path = setting.folder.path().join("agent.json");
    let agent = setting.enroll(setting.enrollment(), &path).await.unwrap();
    assert_eq!(
        setting.edge.lines(),
        ["POST /agent/enroll/challenge", "POST /agent/enroll/complete"]
    );
    drop(agent);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
    let kept = Credentials::read(&path).unwrap();
    assert_eq!((kept.agent_id, kept.agent_secret), (agent_id(), secret()));
    assert_eq!(kept.token.unwrap().expires_at_ms, START_MS + 3_600_000);
    let agent = Agent::open(&path, setting.settings()).unwrap();
    soon(agent.call(Method::GET, "/v1/x", HeaderMap::new(), "")).await.unwrap();
    assert_eq!(setting.edge.seen()[2].header("authorization"), "Bearer first.jwt");
}

#[tokio::test]
async fn a_code_of_another_owner_is_not_used_up() {
    let setting = setting().await;
    let path = setting.folder.path().join("agent.json");
    let mut enrollment = setting.enrollment();
    enrollment.expect_owner = Some(OwnerId::parse("owner-2").unwrap());
    let error = setting.enroll(enrollment, &path).await.unwrap_err();
    assert!(matches!(error, Error::OwnerMismatch { .. }), "{error}");
    assert_eq!(setting.edge.lines(), ["POST /agent/enroll/challenge"]);
    assert_eq!(std::fs::read_dir(setting.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn another_audience_is_refused_with_what_to_check() {
    let setting = setting().await;
    let path = setting.folder.path().join("agent.json");
    let mut enrollment = setting.enrollment();
    enrollment.audience = "production".to_owned();
    let error = setting.enroll(enrollment, &path).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::EnrollCodeInvalid));
    assert!(error.to_string().contains("audience"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_noticed_before_the_code_is_used_up() {
    let setting = setting().await;
    let path = setting.folder.path().join("missing/agent.json");
    let error = setting.enroll(setting.enrollment(), &path).await.unwrap_err();
    assert!(matches!(error, Error::Local { .. }), "{error}");
    assert_eq!(setting.edge.seen().len(), 0);
}

#[tokio::test]
async fn nothing_is_enrolled_over_plain_http_to_another_machine() {
    let setting = setting().await;
    let path = setting.folder.path().join("agent.json");
    // Reserved for documentation (RFC 5737): refused before anything is sent.
    let enrollment = Enrollment::new("http://192.0.2.1:9", CODE).unwrap();
    let error = setting.enroll(enrollment, &path).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

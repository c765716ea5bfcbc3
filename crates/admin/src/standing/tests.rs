use std::sync::Mutex;

use async_trait::async_trait;
use edgeward_keys::SystemEntropy;
use http::StatusCode;
use tower_service::Service as _;

use super::*;
use crate::actor::ActorKind;
use crate::api;
use crate::server::trace;
use crate::source::{Readiness, SourceUnavailable, Status};

const ID: &str = "0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f";

/// Does what it is asked to, and keeps who asked for what, and why.
#[derive(Default)]
struct Willing(Mutex<Vec<(Standing, String, Option<String>)>>);

#[async_trait]
impl Source for Willing {
    async fn readiness(&self) -> Readiness {
        Readiness::of(Vec::new())
    }

    async fn status(&self) -> Status {
        Status::default()
    }

    async fn set_standing(
        &self,
        _: AgentId,
        to: Standing,
        by: &Actor,
        reason: Option<String>,
    ) -> Result<Option<StandingAnswer>, SourceUnavailable> {
        self.0.lock().unwrap().push((to, by.to_string(), reason));
        Ok(Some(StandingAnswer::AsAsked { epoch: 1, changed: true, streams_cut: 0 }))
    }
}

impl Willing {
    fn asked(&self) -> Vec<(Standing, String, Option<String>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn post(
    source: &Arc<Willing>,
    role: Role,
    verb: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> (StatusCode, String) {
    let mut request = Request::post(format!("/agents/{ID}/{verb}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(body).unwrap();
    let actor = Actor { kind: ActorKind::Peer { uid: 7 }, role };
    request.extensions_mut().insert(actor);
    request.extensions_mut().insert(Trace(trace(&SystemEntropy)));
    let mut router = api::router(Arc::clone(source) as _);
    let response = router.call(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn each_change_asks_for_its_role() {
    let source = Arc::new(Willing::default());
    for (verb, to, least) in [
        ("block", Standing::Blocked, Role::Operator),
        ("unblock", Standing::Active, Role::Operator),
        ("retire", Standing::Retired, Role::Admin),
    ] {
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            let (status, body) = post(&source, role, verb, JSON, "{}".into()).await;
            if role < least {
                assert_eq!(status, StatusCode::FORBIDDEN, "{verb} {role:?}");
                assert!(body.contains(r#""code":"role_insufficient""#), "{body}");
                assert_eq!(source.asked(), []);
            } else {
                assert_eq!(status, StatusCode::OK, "{verb} {role:?}");
                assert_eq!(source.asked(), [(to, "uid:7".to_owned(), None)]);
            }
        }
    }
}

#[tokio::test]
async fn a_role_is_judged_before_the_body() {
    let source = Arc::new(Willing::default());
    let (status, _) = post(&source, Role::Viewer, "block", &[], "nonsense".into()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_reason_is_a_line_for_people() {
    let source = Arc::new(Willing::default());
    let longest = "ä".repeat(MAX_REASON);
    for good in ["lost laptop, ticket 7", "»«", &longest] {
        let body = serde_json::json!({ "reason": good }).to_string();
        let (status, _) = post(&source, Role::Operator, "block", JSON, body.into()).await;
        assert_eq!(status, StatusCode::OK, "{good}");
        assert_eq!(source.asked().pop().unwrap().2.as_deref(), Some(good));
    }
    let (status, _) =
        post(&source, Role::Operator, "block", JSON, r#"{"reason":null}"#.into()).await;
    assert_eq!((status, source.asked().pop().unwrap().2), (StatusCode::OK, None));

    let longer = "a".repeat(MAX_REASON + 1);
    for bad in ["", " ", "a\nb", "\u{1b}[2J", "\u{9b}2J", &longer] {
        let body = serde_json::json!({ "reason": bad }).to_string();
        let (status, body) = post(&source, Role::Operator, "block", JSON, body.into()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad:?}");
        assert!(body.contains("500 characters"), "{body}");
    }
    assert_eq!(source.asked(), []);
}

#[tokio::test]
async fn a_body_has_one_form() {
    let source = Arc::new(Willing::default());
    for bad in ["", "null", "7", r#"{"reason":7}"#, r#"{"why":"x"}"#, "{}{}", "reason=x", "\u{ff}"]
    {
        let (status, body) = post(&source, Role::Operator, "block", JSON, bad.into()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(body.contains(r#""code":"request_malformed""#), "{body}");
    }
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/jsonp")],
        &[("content-type", "application/json"), ("content-type", "text/plain")],
    ] {
        let (status, _) = post(&source, Role::Operator, "block", headers, "{}".into()).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{headers:?}");
    }
    assert_eq!(source.asked(), []);
    let parameter = &[("content-type", "Application/JSON; charset=utf-8")];
    let (status, _) = post(&source, Role::Operator, "block", parameter, "{}".into()).await;
    assert_eq!(status, StatusCode::OK);
}

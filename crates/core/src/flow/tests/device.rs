//! The device proof, and the bodies of the edge's own calls.

use crate::flow::Ask;
use crate::policy::DeviceProof;
use crate::rejection::Rejection;
use crate::tests::forge::{Forge, Signer, agent_id, other_id};
use crate::tests::mint;

const START: &str = "/agent/session/start";
const REFRESH: &str = "/agent/token/refresh";

fn strict(forge: Forge) -> Forge {
    forge.edit_policy(|policy| policy.device_proof = DeviceProof::Session)
}

fn proof(forge: Forge, device_proof: Option<bool>) -> Forge {
    Forge { device_proof, ..forge }
}

#[test]
fn where_a_proof_is_due_only_a_right_one_passes() {
    for target in [START, REFRESH] {
        let forge = strict(Forge::by_secret().to(target));
        assert_eq!(proof(forge.clone(), Some(true)).verdict(), "ok", "{target}");
        assert_eq!(proof(forge.clone(), None).refusal(), Rejection::DeviceProofMissing);
        assert_eq!(proof(forge, Some(false)).refusal(), Rejection::DeviceProofWrong);
    }
}

#[test]
fn a_proof_that_is_not_due_is_checked_all_the_same() {
    for target in [START, REFRESH] {
        let forge = Forge::by_secret().to(target);
        assert_eq!(proof(forge.clone(), Some(true)).verdict(), "ok", "{target}");
        assert_eq!(proof(forge.clone(), None).verdict(), "ok", "{target}");
        assert_eq!(proof(forge, Some(false)).refusal(), Rejection::DeviceProofWrong);
    }
    let in_session = strict(Forge::in_session().to(REFRESH));
    assert_eq!(proof(in_session.clone(), None).verdict(), "ok");
    assert_eq!(proof(in_session, Some(false)).refusal(), Rejection::DeviceProofWrong);
}

#[test]
fn an_agent_without_a_device_key_proves_nothing() {
    let forge = proof(strict(Forge::session_start()), Some(true));
    assert_eq!(
        forge.edit_agent(|agent| agent.device_key = None).refusal(),
        Rejection::DeviceProofWrong
    );
}

#[test]
fn a_proof_is_of_this_very_request() {
    let forge = proof(strict(Forge::session_start()), Some(true));
    let (_, body) = forge.request();
    for other in [
        Forge { nonce: Some("nonce-9999999999".to_owned()), ..forge.clone() },
        Forge { timestamp: forge.timestamp + 1, ..forge.clone() },
        forge.clone().to(REFRESH),
        forge.clone().to("/agent/session/start?x"),
    ] {
        let reused = Forge { body: body.clone(), device_proof: None, ..other };
        assert_eq!(reused.refusal(), Rejection::DeviceProofWrong, "{}", reused.target);
    }
    let same = Forge { body, device_proof: None, ..forge };
    assert_eq!(same.verdict(), "ok");
}

#[test]
fn a_p256_device_key_proves_as_well() {
    let [_, point @ ..] = mint::p256_public();
    let (x, y) = point.split_at(32);
    let key =
        edgeward_wire::DevicePublicKey::P256 { x: x.try_into().unwrap(), y: y.try_into().unwrap() };
    let forge = strict(Forge::session_start()).edit_agent(|agent| agent.device_key = Some(key));
    let message = edgeward_wire::enroll::device_proof_message(
        mint::AUDIENCE,
        agent_id(),
        "POST",
        START,
        &forge.timestamp.to_string(),
        forge.nonce.as_deref().unwrap(),
    );
    let signature =
        mint::p256().sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).unwrap();
    let body = format!(r#"{{"device_proof":"{}"}}"#, mint::base64url(signature.as_ref()));
    assert_eq!(Forge { body: body.into_bytes(), ..forge.clone() }.verdict(), "ok");
    assert_eq!(proof(forge, Some(true)).refusal(), Rejection::DeviceProofWrong);
}

#[test]
fn the_body_names_the_caller_or_nobody() {
    let start = |body: String| Forge { body: body.into_bytes(), ..Forge::session_start() };
    assert_eq!(start(format!(r#"{{"agent_id":"{}"}}"#, agent_id())).verdict(), "ok");
    let other = start(format!(r#"{{"agent_id":"{}"}}"#, other_id())).refusal();
    assert!(matches!(other, Rejection::Malformed(_)), "{other:?}");
    for good in ["", "{}", " {} "] {
        let admission = start(good.to_owned()).run().unwrap();
        assert!(matches!(admission.ask, Ask::SessionStart(_)));
    }
}

#[test]
fn bodies_of_own_calls_are_closed() {
    let calls = [
        (Forge::session_start(), START),
        (
            Forge { bearer: Some(crate::tests::forge::token()), ..Forge::in_session() },
            "/agent/session/extend",
        ),
        (Forge::in_session(), "/agent/session/end"),
        (Forge::in_session(), REFRESH),
    ];
    for (forge, target) in calls {
        let forge = forge.to(target);
        assert_eq!(forge.verdict(), "ok", "{target}");
        for bad in ["[]", "null", "{\"a\":1}", "{}{}", "{\"device_proof\":1}", "{", "\u{feff}{}"] {
            let bad = Forge { body: bad.as_bytes().to_vec(), ..forge.clone() };
            assert!(matches!(bad.refusal(), Rejection::Malformed(_)), "{target}");
        }
    }
    // The body of an upstream's is not the edge's to read.
    let opaque = Forge { body: b"\x00not json".to_vec(), ..Forge::in_session() };
    assert!(matches!(opaque.run().unwrap().ask, Ask::Opaque));
}

#[test]
fn a_session_has_no_place_at_its_own_start() {
    let forge = Forge { signer: Signer::Session, ..Forge::session_start() };
    assert!(matches!(forge.refusal(), Rejection::Malformed(_)));
    let forge = Forge { signer: Signer::SecretInSession, ..Forge::session_start() };
    assert!(matches!(forge.refusal(), Rejection::Malformed(_)));
}

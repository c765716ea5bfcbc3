//! The published vectors of the signature, read as data.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgeward_wire::signature::BodyDigest;
use edgeward_wire::{
    AgentId, AgentSecret, MacKey, SessionId, SessionKey, SessionSalt, Signature, StringToSign,
};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let data: Value = serde_json::from_str(include_str!("data/signing.json")).unwrap();
    data["cases"].as_array().unwrap().clone()
}

fn body(case: &Value) -> Vec<u8> {
    let repeat = &case["body_repeat"];
    match repeat["byte"].as_str() {
        Some(byte) => byte.repeat(repeat["count"].as_u64().unwrap() as usize).into_bytes(),
        None => STANDARD.decode(case["body_base64"].as_str().unwrap()).unwrap(),
    }
}

/// The key of a case: the session's where there is one, else the secret.
fn key(case: &Value) -> MacKey {
    let secret = AgentSecret::parse(case["agent_secret"].as_str().unwrap()).unwrap();
    if case["session_id"] == "" {
        return MacKey::of_secret(&secret);
    }
    let session = SessionId::parse(case["session_id"].as_str().unwrap()).unwrap();
    let salt = SessionSalt::parse(case["session_salt"].as_str().unwrap()).unwrap();
    let key = SessionKey::derive(&secret, &session, &salt);
    let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, case["session_key_hex"].as_str().unwrap());
    MacKey::of_session(&key)
}

fn string_to_sign<'a>(case: &'a Value, body: &[u8]) -> StringToSign<'a> {
    let text = |name: &str| case[name].as_str().unwrap();
    StringToSign {
        audience: text("audience"),
        agent_id: AgentId::parse(text("agent_id")).unwrap(),
        session_id: text("session_id"),
        timestamp: text("timestamp"),
        nonce: text("nonce"),
        method: text("method"),
        target: text("target"),
        content_type: text("content_type"),
        body: BodyDigest::of(body),
    }
}

#[test]
fn every_vector_signs_to_the_same_bytes() {
    let cases = cases();
    assert_eq!(cases.len(), 10);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let body = body(case);
        assert_eq!(
            BodyDigest::of(&body).to_string(),
            case["body_sha256"].as_str().unwrap(),
            "{name}"
        );
        let to_sign = string_to_sign(case, &body);
        assert_eq!(to_sign.render(), case["string_to_sign"].as_str().unwrap(), "{name}");
        let header = case["x_signature"].as_str().unwrap();
        assert_eq!(key(case).sign(&to_sign).header(), header, "{name}");
        assert!(key(case).accepts(&to_sign.bytes(), &Signature::parse(header).unwrap()), "{name}");
    }
}

#[test]
fn a_change_of_any_line_or_of_the_key_is_noticed() {
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let signature = Signature::parse(case["x_signature"].as_str().unwrap()).unwrap();
        let rendered = case["string_to_sign"].as_str().unwrap();
        let lines: Vec<&str> = rendered.split('\n').collect();
        assert_eq!(lines.len(), 10, "{name}");
        for at in 0..lines.len() {
            let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            changed[at].push('x');
            assert!(
                !key(&case).accepts(changed.join("\n").as_bytes(), &signature),
                "{name}, line {at}"
            );
        }
        let other = MacKey::of_secret(&AgentSecret::from_random(&[0; 32]));
        assert!(!other.accepts(rendered.as_bytes(), &signature), "{name}");
    }
}

#[test]
fn the_header_has_one_form() {
    let good = cases()[0]["x_signature"].as_str().unwrap().to_owned();
    assert!(Signature::parse(&good).is_ok());
    for bad in [
        good.to_uppercase(),
        good[3..].to_owned(),
        format!("{good}0"),
        good.replace("v2=", "v1="),
        String::new(),
    ] {
        assert!(Signature::parse(&bad).is_err(), "{bad}");
    }
}

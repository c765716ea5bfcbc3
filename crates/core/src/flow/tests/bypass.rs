//! Ways round the signature: a JWT alone, the secret itself.

use std::sync::Arc;

use crate::record::{Fact, Standing};
use crate::rejection::Rejection;
use crate::tests::forge::{Forge, Signer, keys, later, secret, session_id, token};
use crate::tests::mint;
use crate::verify::jwt::{Expected, JwtKeys, VerifiedToken};

/// A JWT alone, to a deployment that takes it.
fn bearer() -> Forge {
    Forge { signer: Signer::Nobody, ..Forge::by_secret() }
        .edit_policy(|policy| policy.require_hmac = false)
}

fn header_secret() -> Forge {
    Forge { signer: Signer::Header, ..Forge::by_secret() }
        .edit_policy(|policy| policy.allow_header_secret = true)
}

#[test]
fn a_token_alone_passes_only_where_no_signature_is_asked_for() {
    let admission = bearer().run().unwrap();
    assert_eq!(admission.caller.secret_version, None);
    assert!(admission.caller.session.is_none());
    let required = bearer().edit_policy(|policy| policy.require_hmac = true);
    assert_eq!(required.refusal(), Rejection::CredentialsMissing);
    for target in [
        "/agent/session/start",
        "/agent/session/extend",
        "/agent/session/end",
        "/agent/token/refresh",
    ] {
        assert_eq!(bearer().to(target).refusal(), Rejection::CredentialsMissing, "{target}");
    }
    assert_eq!(bearer().to("/session").verdict(), "session_required");
    assert_eq!(bearer().to("/sensitive").verdict(), "session_required");
    assert_eq!(bearer().to("/nonce").verdict(), "nonce_required");
    let echo = bearer().to("/agent/protected/echo");
    assert!(echo.run().is_ok());
    let strict =
        bearer().to("/agent/protected/echo").edit_policy(|policy| policy.require_nonce = true);
    assert_eq!(strict.verdict(), "nonce_required");
}

#[test]
fn headers_beside_a_lone_token_bring_nothing() {
    let beside = |target: &str| {
        bearer()
            .set("x-nonce", "nonce-0123456789")
            .set("x-session-id", session_id(5).expose())
            .set("x-timestamp", "1764000000000")
            .set("x-agent-id", mint::AGENT)
            .to(target)
            .verdict()
    };
    let other = bearer().set("x-agent-id", "0192f3c4-5a6b-7c8d-9e0f-000000000000");
    assert_eq!(other.verdict(), "token_subject");
    assert_eq!(beside("/nonce"), "nonce_required");
    assert_eq!(beside("/session"), "session_required");
    assert_eq!(beside("/sensitive"), "session_required");
}

#[test]
fn a_lone_token_is_verified_whatever_the_deployment_says_of_tokens() {
    // Such a deployment is refused at its start; were it not, nobody may be let in on a claim.
    let off = |bearer_text: String| {
        Forge { bearer: Some(bearer_text), ..bearer() }
            .edit_policy(|policy| policy.verify_jwt = false)
    };
    let good = token();
    let (signed, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", mint::base64url(&[0; 64]));
    assert_eq!(off(forged).verdict(), "token_signature");
    let stranger = mint::eddsa(mint::KID, &mint::agent_claims(), 8);
    assert_eq!(off(stranger).verdict(), "token_signature");
}

#[test]
fn a_lone_token_must_hold() {
    let of = |bearer_text: String| Forge { bearer: Some(bearer_text), ..bearer() }.verdict();
    let claims = mint::agent_claims();
    assert_eq!(of(mint::eddsa(mint::KID, &claims, 8)), "token_signature");
    assert_eq!(of(mint::eddsa("other", &claims, 7)), "token_unknown_key");
    let expired = mint::with(&claims, "exp", mint::NOW_SEC.into());
    assert_eq!(of(mint::eddsa(mint::KID, &expired, 7)), "token_expired");
    let earlier = mint::with(&claims, "epoch", 2.into());
    assert_eq!(of(mint::eddsa(mint::KID, &earlier, 7)), "token_epoch");
    let nobody = mint::without(&claims, "sub");
    assert_eq!(of(mint::eddsa(mint::KID, &nobody, 7)), "token_claims");
    assert_eq!(of("x.y.z".to_owned()), "token_form");
}

#[test]
fn a_forged_lone_token_does_not_tell_which_agents_there_are() {
    let forged = |subject: &str| {
        let claims = mint::with(&mint::agent_claims(), "sub", subject.into());
        Forge { bearer: Some(mint::eddsa(mint::KID, &claims, 8)), ..bearer() }.refusal().spec()
    };
    let known = forged(mint::AGENT);
    let unknown = forged("00000000-0000-7000-8000-000000000000");
    assert_eq!(known, unknown);
    // A blocked one neither.
    let claims = mint::agent_claims();
    let blocked = Forge { bearer: Some(mint::eddsa(mint::KID, &claims, 8)), ..bearer() }
        .edit_agent(|agent| agent.standing = Standing::Blocked);
    assert_eq!(blocked.refusal().spec(), known);
    // Whoever holds a good one of an agent that is gone is not let in.
    let gone = Forge { agent: Fact::NONE, ..bearer() };
    assert_eq!(gone.verdict(), "unknown_agent");
}

#[test]
fn the_secret_itself_is_refused_even_when_it_is_right() {
    let refused = header_secret().edit_policy(|policy| policy.allow_header_secret = false);
    assert_eq!(refused.refusal(), Rejection::HeaderSecretRefused);
    assert_eq!(header_secret().verdict(), "ok");
    for target in [
        "/agent/session/start",
        "/agent/session/extend",
        "/agent/session/end",
        "/agent/token/refresh",
        "/agent/protected/echo",
        "/agent/nothing",
    ] {
        assert_eq!(
            header_secret().to(target).refusal(),
            Rejection::HeaderSecretRefused,
            "{target}"
        );
    }
    assert_eq!(Forge { secret: secret(99), ..header_secret() }.verdict(), "wrong_signature");
    assert_eq!(Forge { secret: secret(12), ..header_secret() }.verdict(), "wrong_signature");
    assert_eq!(Forge { secret: secret(10), ..header_secret() }.verdict(), "ok");
    assert_eq!(header_secret().to("/nonce").verdict(), "nonce_required");
    assert_eq!(header_secret().to("/sensitive").verdict(), "session_required");
    let nonce = header_secret().set("x-nonce", "nonce-0123456789").to("/nonce");
    assert_eq!(nonce.verdict(), "nonce_required");
}

#[test]
fn a_remembered_token_is_good_only_for_its_ring_and_still_dated() {
    let expected = Expected { issuer: mint::ISSUER, audience: mint::AUDIENCE };
    let known = VerifiedToken::verify(&token(), &keys(), expected).unwrap();
    // The ring is empty: what passes was remembered.
    let ring = |generation| Arc::new(JwtKeys { generation, ..JwtKeys::default() });
    let forge = Forge { keys: ring(1), remembered: Some(known), ..Forge::by_secret() };
    assert_eq!(forge.verdict(), "ok");
    assert_eq!(Forge { keys: ring(2), ..forge.clone() }.verdict(), "token_unknown_key");
    assert_eq!(Forge { remembered: None, ..forge.clone() }.verdict(), "token_unknown_key");
    assert_eq!(forge.clone().edit_agent(|agent| agent.epoch = 4).verdict(), "token_epoch");
    let now = later(600_000);
    let late = Forge { begun_at: now, assessed_at: now, timestamp: now.wall.0, ..forge };
    assert_eq!(late.verdict(), "token_expired");
}

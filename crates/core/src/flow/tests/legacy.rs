//! Agents of the older design, whose signature covers the body alone.

use edgeward_wire::Code;

use crate::policy::BodySignatures;
use crate::rejection::Rejection;
use crate::tests::forge::{Forge, NOW, Signer, later, secret};

#[test]
fn a_body_signature_passes_where_it_is_taken() {
    let admission = Forge::legacy().run().unwrap();
    assert_eq!(admission.caller.secret_version, Some(2));
    assert_eq!(Forge { secret: secret(10), ..Forge::legacy() }.verdict(), "ok");
    // It claims no nonce, since none is signed.
    assert!(Forge::legacy().commit().unwrap().claim().nonce().is_none());
    let sent = Forge::legacy().set("x-nonce", "nonce-0123456789");
    assert!(sent.commit().unwrap().claim().nonce().is_none());
}

#[test]
fn everywhere_else_it_is_a_wrong_signature() {
    let until = |end| Forge::legacy().edit_policy(|policy| policy.body_signatures = end);
    assert_eq!(until(BodySignatures::Until(later(1).wall)).verdict(), "ok");
    for forge in [
        until(BodySignatures::Refused),
        until(BodySignatures::Until(NOW.wall)),
        Forge { body: Vec::new(), ..Forge::legacy() },
        Forge::legacy().edit_agent(|agent| agent.legacy = false),
        Forge::legacy().to("/sensitive"),
        Forge::legacy().to("/agent/protected/echo"),
        Forge::legacy().to("/agent/session/start"),
        Forge::legacy().to("/agent/session/extend"),
        Forge::legacy().to("/agent/session/end"),
        Forge::legacy().to("/agent/token/refresh"),
        Forge::legacy().to("/agent/no-such-call"),
    ] {
        let refusal = forge.refusal();
        assert_eq!(refusal, Rejection::BodySignatureRefused, "{}", forge.target);
        assert_eq!(refusal.spec().code, Code::SignatureInvalid);
    }
    for forge in [
        Forge { secret: secret(99), ..Forge::legacy() },
        Forge { secret: secret(12), ..Forge::legacy() },
        Forge::legacy().set("x-signature", &"0".repeat(64)),
    ] {
        assert_eq!(forge.refusal(), Rejection::WrongSignature);
    }
}

#[test]
fn it_covers_the_body() {
    let forge = Forge::legacy();
    let (parts, mut body) = forge.request();
    body[0] = b'[';
    assert_eq!(forge.run_parts(parts, body).unwrap_err(), Rejection::WrongSignature);
}

#[test]
fn it_brings_neither_session_nor_nonce() {
    assert_eq!(Forge::legacy().to("/session").verdict(), "session_required");
    assert_eq!(Forge::legacy().to("/nonce").verdict(), "nonce_required");
    // Nor does a header beside it.
    let session = Forge::legacy().set("x-session-id", crate::tests::forge::session_id(5).expose());
    assert_eq!(session.to("/session").verdict(), "session_required");
    let nonce = Forge::legacy().set("x-nonce", "nonce-0123456789");
    assert_eq!(nonce.to("/nonce").verdict(), "nonce_required");
}

#[test]
fn a_legacy_secret_is_good_for_nothing_else() {
    let legacy = |signer, target| {
        Forge { signer, ..Forge::legacy() }
            .edit_policy(|policy| policy.allow_header_secret = true)
            .to(target)
            .verdict()
    };
    assert_eq!(legacy(Signer::Secret, "/open"), "legacy_secret");
    assert_eq!(legacy(Signer::Secret, "/agent/session/start"), "legacy_secret");
    assert_eq!(legacy(Signer::Secret, "/agent/token/refresh"), "legacy_secret");
    assert_eq!(legacy(Signer::Session, "/open"), "legacy_secret");
    assert_eq!(legacy(Signer::Header, "/open"), "legacy_secret");
}

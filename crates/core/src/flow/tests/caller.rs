//! What is known of a caller once it has proven itself.

use super::super::assess::ProvenBy;
use crate::tests::forge::{Forge, Signer};

#[test]
fn a_caller_is_known_by_what_it_proved_itself_by() {
    let bearer = Forge { signer: Signer::Nobody, ..Forge::by_secret() }
        .edit_policy(|policy| policy.require_hmac = false);
    let header = Forge { signer: Signer::Header, ..Forge::by_secret() }
        .edit_policy(|policy| policy.allow_header_secret = true);
    for (forge, by, version) in [
        (Forge::in_session(), ProvenBy::Signature, Some(2)),
        (Forge::by_secret(), ProvenBy::Signature, Some(2)),
        (bearer, ProvenBy::Token, None),
        (header, ProvenBy::HeaderSecret, Some(2)),
        (Forge::legacy(), ProvenBy::BodySignature, Some(2)),
    ] {
        let caller = forge.run().unwrap().caller;
        assert_eq!((caller.by, caller.secret_version), (by, version));
    }
}

#[test]
fn a_stream_is_asked_of_an_upstream_by_accept() {
    let wants = |target: &str, accept: &str| {
        Forge::in_session().to(target).set("accept", accept).commit().unwrap().wants_stream()
    };
    for accept in
        ["text/event-stream", "text/html, text/event-stream;q=0.9", "*/*,text/event-stream"]
    {
        assert!(wants("/open", accept), "{accept}");
        assert!(!wants("/agent/protected/echo", accept), "{accept}");
    }
    for accept in ["*/*", "application/json", "text/plain"] {
        assert!(!wants("/open", accept), "{accept}");
    }
    assert!(!Forge::in_session().commit().unwrap().wants_stream());
}

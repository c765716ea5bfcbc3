//! Credentials, good and bad, and what is true of each.

use crate::tests::forge::{Forge, Signer, other_id, secret, session_id, token};
use crate::tests::mint;

/// What is true of a credential; everything that the plain rules needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truth {
    /// What it proves, if anything.
    pub(super) proves: Proves,
    /// A nonce is signed.
    pub(super) nonce: bool,
    /// A good JWT of this agent comes along.
    pub(super) token: Bearer,
    /// The agent's record says that it is a legacy one.
    pub(super) legacy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proves {
    Nothing,
    Session,
    Secret,
    /// The JWT alone, if it is good.
    Token,
    /// The secret itself was sent, and is right.
    HeaderSecret,
    /// The body alone is signed, rightly.
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer {
    None,
    Good,
    Bad,
}

pub(super) const NOTHING: Truth =
    Truth { proves: Proves::Nothing, nonce: true, token: Bearer::Good, legacy: false };

pub(super) type Credential = (&'static str, Truth, Forge);
pub(super) type Recipe = (&'static str, Truth, fn() -> Forge);

pub(super) fn by(proves: Proves, token: Bearer) -> Truth {
    Truth { proves, nonce: true, token, legacy: false }
}

pub(super) fn lone(text: String) -> Forge {
    Forge { signer: Signer::Nobody, bearer: Some(text), ..Forge::in_session() }
}

pub(super) fn unsigned(signer: Signer) -> Forge {
    Forge { signer, ..Forge::by_secret() }
}

pub(super) fn legacy(signer: Signer) -> Forge {
    unsigned(signer).edit_agent(|agent| agent.legacy = true)
}

pub(super) fn stranger() -> String {
    mint::eddsa(mint::KID, &mint::agent_claims(), 8)
}

pub(super) fn of_another() -> String {
    let claims = mint::with(&mint::agent_claims(), "sub", other_id().to_string().into());
    mint::eddsa(mint::KID, &claims, 7)
}

pub(super) fn without_algorithm() -> String {
    let header = format!(r#"{{"alg":"none","typ":"JWT","kid":"{}"}}"#, mint::KID);
    let token = mint::raw(&header, &mint::agent_claims().to_string());
    format!("{}.AA", token.rsplit_once('.').unwrap().0)
}

pub(super) fn credentials() -> Vec<Credential> {
    use Bearer::{Bad, Good};
    let unproven = |nonce| Truth { nonce, ..NOTHING };
    let listed: Vec<Recipe> = vec![
        ("none", unproven(false), || lone(String::new()).remove("authorization")),
        ("names an agent only", unproven(false), || {
            lone(String::new()).remove("authorization").set("x-agent-id", mint::AGENT)
        }),
        ("no signature", unproven(true), || {
            Forge::by_secret().remove("x-signature").remove("authorization")
        }),
        ("no timestamp", NOTHING, || Forge::by_secret().remove("x-timestamp")),
        ("no agent id", NOTHING, || Forge::by_secret().remove("x-agent-id")),
        ("session", by(Proves::Session, Bearer::None), Forge::in_session),
        ("session + token", by(Proves::Session, Good), || Forge {
            bearer: Some(token()),
            ..Forge::in_session()
        }),
        ("session + stranger's token", by(Proves::Session, Bad), || Forge {
            bearer: Some(stranger()),
            ..Forge::in_session()
        }),
        ("session, no nonce", Truth { nonce: false, ..by(Proves::Session, Good) }, || Forge {
            nonce: None,
            bearer: Some(token()),
            ..Forge::in_session()
        }),
        ("session, wrong signature", NOTHING, || Forge::in_session().wrong_signature()),
        ("session, signed by secret", NOTHING, || unsigned(Signer::SecretInSession)),
        ("session key without session", NOTHING, || unsigned(Signer::SessionKeyAlone)),
        ("another's session", NOTHING, || Forge {
            session_id: session_id(6),
            ..Forge::in_session()
        }),
        ("session named by another", NOTHING, || Forge {
            named: other_id(),
            ..Forge::in_session()
        }),
        ("secret", by(Proves::Secret, Bearer::None), || Forge {
            bearer: None,
            ..Forge::by_secret()
        }),
        ("secret + token", by(Proves::Secret, Good), Forge::by_secret),
        ("secret + token, no nonce", Truth { nonce: false, ..by(Proves::Secret, Good) }, || {
            Forge { nonce: None, ..Forge::by_secret() }
        }),
        ("secret + another's token", by(Proves::Secret, Bad), || Forge {
            bearer: Some(of_another()),
            ..Forge::by_secret()
        }),
        ("secret in grace + token", by(Proves::Secret, Good), || Forge {
            secret: secret(10),
            ..Forge::by_secret()
        }),
        ("secret past grace + token", NOTHING, || Forge {
            secret: secret(12),
            ..Forge::by_secret()
        }),
        ("another's secret + token", NOTHING, || Forge {
            secret: secret(66),
            ..Forge::by_secret()
        }),
        ("v2 by legacy agent + token", Truth { legacy: true, ..by(Proves::Secret, Good) }, || {
            legacy(Signer::Secret)
        }),
        ("token alone", Truth { nonce: false, ..by(Proves::Token, Good) }, || lone(token())),
        ("stranger's token alone", NOTHING, || lone(stranger())),
        ("alg none alone", NOTHING, || lone(without_algorithm())),
        ("basic", NOTHING, || lone(token()).set("authorization", "Basic dXNlcjpwYXNz")),
        ("header secret", Truth { nonce: false, ..by(Proves::HeaderSecret, Bearer::None) }, || {
            Forge { bearer: None, ..unsigned(Signer::Header) }
        }),
        ("header secret + token", Truth { nonce: false, ..by(Proves::HeaderSecret, Good) }, || {
            unsigned(Signer::Header)
        }),
        ("wrong header secret + token", NOTHING, || Forge {
            secret: secret(99),
            ..unsigned(Signer::Header)
        }),
        (
            "header secret of legacy",
            Truth { legacy: true, nonce: false, ..by(Proves::HeaderSecret, Good) },
            || legacy(Signer::Header),
        ),
        ("body, not legacy + token", NOTHING, || unsigned(Signer::Body)),
        ("body + token", Truth { legacy: true, nonce: false, ..by(Proves::Body, Good) }, || {
            legacy(Signer::Body)
        }),
        ("body", Truth { legacy: true, nonce: false, ..by(Proves::Body, Bearer::None) }, || {
            Forge { bearer: None, ..legacy(Signer::Body) }
        }),
        ("empty body + token", NOTHING, || Forge { body: Vec::new(), ..legacy(Signer::Body) }),
        ("wrong body signature", NOTHING, || Forge { secret: secret(99), ..legacy(Signer::Body) }),
    ];
    listed.into_iter().map(|(name, truth, forge)| (name, truth, forge())).collect()
}

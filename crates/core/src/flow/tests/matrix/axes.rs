//! Where requests go, what stores say, and what the deployment is like.

use edgeward_wire::AgentId;

use crate::flow::Outcome;
use crate::nonce::ClaimOutcome;
use crate::policy::{BodySignatures, DeviceProof};
use crate::record::{Fact, Standing};
use crate::tests::forge::{Forge, NOW, networks};

/// A destination, and what it asks for of its own.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) target: &'static str,
    pub(super) own: bool,
    pub(super) session: Ask,
    pub(super) nonce: bool,
    pub(super) token: Ask,
    pub(super) reachable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Must be there.
    Yes,
    /// Must be there without a session, or where one is due.
    Sessionless,
    /// May be there, and is looked at.
    No,
    /// May be there, and is not looked at.
    Ignored,
    /// Must not be there.
    Never,
}

pub(super) fn places() -> [Place; 13] {
    let at = |name, target, session, nonce, reachable| Place {
        name,
        target,
        own: false,
        session,
        nonce,
        token: Ask::Sessionless,
        reachable,
    };
    let own = |name, target, session, token| Place {
        own: true,
        token,
        ..at(name, target, session, true, true)
    };
    [
        at("open", "/open", Ask::No, false, true),
        at("session", "/session", Ask::Yes, false, true),
        at("nonce", "/nonce", Ask::No, true, true),
        at("sensitive", "/sensitive", Ask::Yes, true, true),
        at("scoped", "/scoped", Ask::No, false, true),
        at("denied", "/denied", Ask::No, false, false),
        at("fenced", "/fenced", Ask::No, false, false),
        at("nowhere", "/nowhere", Ask::No, false, false),
        own("start", "/agent/session/start", Ask::Never, Ask::Yes),
        own("extend", "/agent/session/extend", Ask::Yes, Ask::Yes),
        own("end", "/agent/session/end", Ask::Yes, Ask::No),
        own("refresh", "/agent/token/refresh", Ask::No, Ask::Ignored),
        own("echo", "/agent/protected/echo", Ask::No, Ask::Sessionless),
    ]
}

/// What stores say. The second tells whom it stops.
pub(super) type World = (&'static str, Stops, fn(Forge) -> Forge);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stops {
    Nobody,
    Everybody,
    Sessions,
    Tokenless,
    /// Whoever brings or signs by what was given at an earlier epoch: sessions and tokens.
    Earlier,
}

pub(super) fn worlds() -> Vec<World> {
    fn claimed(forge: Forge, outcome: ClaimOutcome) -> Forge {
        Forge { outcome: Outcome::Claimed(outcome), ..forge }
    }
    vec![
        ("known", Stops::Nobody, |forge| forge),
        ("token due", Stops::Tokenless, |forge| Forge { token_due: true, ..forge }),
        ("unknown agent", Stops::Everybody, |forge| Forge { agent: Fact::NONE, ..forge }),
        ("blocked", Stops::Everybody, |forge| {
            forge.edit_agent(|agent| agent.standing = Standing::Blocked)
        }),
        ("retired", Stops::Everybody, |forge| {
            forge.edit_agent(|agent| agent.standing = Standing::Retired)
        }),
        ("wrong address", Stops::Everybody, |forge| {
            forge.edit_agent(|agent| agent.allowed = networks(&["10.0.0.0/8"]))
        }),
        ("no secrets", Stops::Nobody, |forge| forge.edit_agent(|agent| agent.secrets = [].into())),
        ("epoch raised", Stops::Earlier, |forge| forge.edit_agent(|agent| agent.epoch = 4)),
        ("session gone", Stops::Sessions, |forge| Forge { session: Fact::NONE, ..forge }),
        ("session expired", Stops::Sessions, |forge| {
            forge.edit_session(|session| session.expires_at = NOW.mono)
        }),
        ("session of another", Stops::Sessions, |forge| {
            forge.edit_session(|session| session.agent = AgentId::from_bytes([8; 16]))
        }),
        ("agents unavailable", Stops::Everybody, |forge| Forge {
            agent: Fact::Unavailable,
            ..forge
        }),
        ("sessions unavailable", Stops::Sessions, |forge| Forge {
            session: Fact::Unavailable,
            ..forge
        }),
        ("nonce used", Stops::Everybody, |forge| claimed(forge, ClaimOutcome::Replayed)),
        ("nonces unavailable", Stops::Everybody, |forge| Forge {
            outcome: Outcome::Unavailable,
            ..forge
        }),
        ("blocked meanwhile", Stops::Everybody, |forge| {
            forge.meanwhile(|forge| forge.edit_agent(|agent| agent.standing = Standing::Blocked))
        }),
        ("session ended meanwhile", Stops::Sessions, |forge| {
            forge.meanwhile(|forge| Forge { session: Fact::NONE, ..forge })
        }),
    ]
}

pub(super) type Deployment = (&'static str, fn(Forge) -> Forge);

pub(super) fn deployments() -> Vec<Deployment> {
    vec![
        ("production", |forge| forge),
        ("no signatures asked for", |forge| {
            forge.edit_policy(|policy| policy.require_hmac = false)
        }),
        ("no tokens asked for", |forge| forge.edit_policy(|policy| policy.verify_jwt = false)),
        ("neither asked for", |forge| {
            forge.edit_policy(|policy| {
                policy.require_hmac = false;
                policy.verify_jwt = false;
            })
        }),
        ("header secrets taken", |forge| {
            forge.edit_policy(|policy| policy.allow_header_secret = true)
        }),
        ("body signatures taken", |forge| {
            forge.edit_policy(|policy| policy.body_signatures = BodySignatures::Taken)
        }),
        ("sessions asked for", |forge| forge.edit_policy(|policy| policy.session_required = true)),
        ("nonces asked for", |forge| forge.edit_policy(|policy| policy.require_nonce = true)),
        ("device proofs asked for", |forge| {
            forge.edit_policy(|policy| policy.device_proof = DeviceProof::Session)
        }),
        ("everything taken", |forge| {
            forge.edit_policy(|policy| {
                policy.require_hmac = false;
                policy.verify_jwt = false;
                policy.allow_header_secret = true;
                policy.body_signatures = BodySignatures::Taken;
            })
        }),
    ]
}

//! One defect, one refusal; two defects, the refusal of the earlier check.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::{Budget, Floor, Outcome};
use crate::nonce::ClaimOutcome;
use crate::policy::DeviceProof;
use crate::record::{Fact, Standing};
use crate::rejection::Rejection;
use crate::tests::forge::{
    Forge, NOW, Signer, agent_id, later, networks, other_id, scopes, secret,
};
use crate::tests::{mint, refusals};
use crate::time::WallMs;

/// The good requests that a defect can be worked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Session,
    Secret,
    Start,
}

const ALL: &[Base] = &[Base::Session, Base::Secret, Base::Start];
const SESSION: &[Base] = &[Base::Session];
const SECRET: &[Base] = &[Base::Secret];
const START: &[Base] = &[Base::Start];
const ROUTES: &[Base] = &[Base::Session, Base::Secret];
const BY_SECRET: &[Base] = &[Base::Secret, Base::Start];

fn base(base: Base) -> Forge {
    match base {
        Base::Session => Forge {
            token_due: true,
            bearer: Some(crate::tests::forge::token()),
            ..Forge::in_session()
        },
        Base::Secret => Forge::by_secret(),
        Base::Start => Forge { device_proof: Some(true), ..Forge::session_start() }
            .edit_policy(|policy| policy.device_proof = DeviceProof::Session),
    }
}

/// Rank (the step and its part), the reason, where it can be worked in, how.
type Defect = (u32, &'static str, &'static [Base], fn(Forge) -> Forge);

const DEFECTS: &[Defect] = &[
    (0, "malformed", ALL, |forge| forge.set("x_y", "1")),
    (0, "target_ambiguous", ALL, |forge| {
        let target =
            format!("{}{}q=%00", forge.target, if forge.target.contains('?') { '&' } else { '?' });
        forge.to(&target)
    }),
    (0, "deployment_address", ALL, |forge| {
        forge.edit_policy(|policy| policy.allowed = networks(&["10.0.0.0/8"]))
    }),
    (1, "credentials_missing", ALL, |forge| forge.remove("x-timestamp")),
    (10, "backing_off", ALL, |forge| Forge { budget: Budget { wait_ms: Some(9) }, ..forge }),
    (20, "starting", ALL, |forge| Forge { floor: Floor { at: Some(NOW.wall) }, ..forge }),
    (21, "clock_outside", ALL, |forge| Forge { timestamp: NOW.wall.0 - 60_001, ..forge }),
    (22, "under_floor", ALL, |mut forge| {
        forge.timestamp = forge.timestamp.min(NOW.wall.0 - 7);
        Forge {
            floor: Floor { at: Some(forge.floor.at.unwrap_or(WallMs(NOW.wall.0 - 7))) },
            ..forge
        }
    }),
    (30, "session_required", SECRET, |forge| {
        forge.edit_route(|route| route.require_session = true)
    }),
    (31, "database_unavailable", ALL, |forge| Forge { agent: Fact::Unavailable, ..forge }),
    (32, "sessions_unavailable", SESSION, |forge| Forge { session: Fact::Unavailable, ..forge }),
    (33, "session_unknown", SESSION, |forge| Forge { session: Fact::NONE, ..forge }),
    (34, "session_of_another", SESSION, |forge| {
        forge.edit_session(|session| session.agent = other_id())
    }),
    (35, "session_expired", SESSION, |forge| {
        forge.edit_session(|session| session.expires_at = NOW.mono)
    }),
    (36, "session_epoch", SESSION, |forge| forge.edit_session(|session| session.epoch = 2)),
    (40, "body_too_large", ALL, |mut forge| {
        forge.device_proof = None;
        forge.body = vec![b' '; 1024 * 1024 + 1];
        forge
    }),
    (41, "clock_outside", ALL, |forge| Forge { assessed_at: later(70_000), ..forge }),
    (42, "session_expired", SESSION, |mut forge| {
        forge.assessed_at.mono = later(600_000).mono;
        forge
    }),
    (50, "unknown_agent", BY_SECRET, |forge| Forge { agent: Fact::NONE, ..forge }),
    (51, "wrong_signature", ALL, Forge::wrong_signature),
    (52, "legacy_secret", ALL, |forge| forge.edit_agent(|agent| agent.legacy = true)),
    (60, "blocked", ALL, |forge| forge.edit_agent(|agent| agent.standing = Standing::Blocked)),
    (60, "retired", ALL, |forge| forge.edit_agent(|agent| agent.standing = Standing::Retired)),
    (61, "route_address", ROUTES, |forge| {
        forge.edit_route(|route| route.allowed = networks(&["10.0.0.0/8", "2001:db8::/32"]))
    }),
    (62, "agent_address", ALL, |forge| {
        forge.edit_agent(|agent| agent.allowed = networks(&["10.0.0.0/8"]))
    }),
    (70, "token_required", ALL, |forge| Forge { bearer: None, ..forge }),
    (71, "token_expired", ALL, |forge| {
        let claims = mint::with(&mint::agent_claims(), "exp", mint::NOW_SEC.into());
        let bearer = forge.bearer.as_ref().map(|_| mint::eddsa(mint::KID, &claims, 7));
        Forge { bearer, ..forge }
    }),
    (72, "malformed", START, |mut forge| {
        forge.device_proof = None;
        if forge.body.len() < 100 {
            forge.body = b"{\"x\":1}".to_vec();
        }
        forge
    }),
    (73, "device_proof_wrong", START, |mut forge| {
        forge.device_proof = forge.device_proof.map(|_| false);
        forge
    }),
    (74, "device_proof_missing", START, |mut forge| {
        forge.device_proof = None;
        forge
    }),
    (80, "scope_missing", ROUTES, |forge| {
        forge.edit_route(|route| route.scopes = scopes(&["chat", "admin"]))
    }),
    (90, "nonce_required", ALL, |forge| {
        Forge { nonce: None, ..forge }.edit_policy(|policy| policy.require_nonce = true)
    }),
    (91, "nonce_replayed", ALL, |forge| claimed(forge, ClaimOutcome::Replayed)),
    (91, "stale_at_claim", ALL, |forge| claimed(forge, ClaimOutcome::Stale)),
    (91, "rate_limited", ALL, |forge| {
        let rate = forge.policy.rate;
        claimed(forge, ClaimOutcome::RateLimited { retry_after_ms: 5, rate })
    }),
    (91, "nonce_memory_full", ALL, |forge| claimed(forge, ClaimOutcome::Full)),
    (91, "too_many_streams", ALL, |forge| Forge { outcome: Outcome::TooManyStreams, ..forge }),
    (91, "nonces_unavailable", ALL, |forge| Forge { outcome: Outcome::Unavailable, ..forge }),
    (100, "blocked", ALL, |forge| {
        forge.meanwhile(|forge| forge.edit_agent(|agent| agent.standing = Standing::Blocked))
    }),
];

fn claimed(forge: Forge, outcome: ClaimOutcome) -> Forge {
    Forge { outcome: Outcome::Claimed(outcome), ..forge }
}

#[test]
fn the_bases_are_good() {
    for one in ALL {
        assert_eq!(base(*one).verdict(), "ok", "{one:?}");
    }
}

#[test]
fn one_defect_alone_gets_its_refusal() {
    for (rank, reason, bases, spoil) in DEFECTS {
        for one in *bases {
            assert_eq!(spoil(base(*one)).verdict(), *reason, "step {rank} into {one:?}");
        }
    }
}

#[test]
fn of_two_defects_the_earlier_check_refuses() {
    let mut pairs = 0;
    for (rank, reason, bases, spoil) in DEFECTS {
        for (later_rank, later_reason, later_bases, later_spoil) in DEFECTS {
            if rank >= later_rank || overlap(*rank, *later_rank) {
                continue;
            }
            for one in bases.iter().filter(|one| later_bases.contains(one)) {
                for both in [spoil(later_spoil(base(*one))), later_spoil(spoil(base(*one)))] {
                    assert_eq!(
                        both.verdict(),
                        *reason,
                        "{reason} ({rank}) and {later_reason} ({later_rank}) in {one:?}"
                    );
                }
                pairs += 1;
            }
        }
    }
    assert!(pairs > 1000, "{pairs}");
}

/// Two defects of one and the same thing cannot both be there.
fn overlap(rank: u32, later: u32) -> bool {
    const ONE_THING: &[&[u32]] = &[
        // The store's answer about the agent, and about the session.
        &[31, 50],
        &[32, 33],
        // The token.
        &[70, 71],
        // The body, and the device proof in it.
        &[40, 72],
        &[40, 73],
        &[40, 74],
        &[72, 73],
        &[72, 74],
        &[73, 74],
    ];
    ONE_THING.iter().any(|pair| pair == &[rank, later])
}

#[test]
fn every_refusal_of_the_flow_is_reached() {
    let mut reached: BTreeSet<&str> = DEFECTS.iter().map(|(_, reason, _, _)| *reason).collect();
    for (forge, reason) in [
        (Forge { signer: Signer::Header, ..Forge::by_secret() }, "header_secret_refused"),
        (Forge { signer: Signer::Body, ..Forge::by_secret() }, "body_signature_refused"),
        (Forge::by_secret().to("/nowhere"), "route_unknown"),
    ] {
        assert_eq!(forge.verdict(), reason);
        reached.insert(reason);
    }
    let everything = refusals::one_of_each();
    let elsewhere = [
        // Of the shell, of enrolment, and of the other faults of a token, which have their own tests.
        "draining",
        "clock_unsteady",
        "body_too_slow",
        "owner_token_required",
        "owner_token_invalid",
        "owner_not_allowed",
        "enroll_code_invalid",
        "keys_unavailable",
        "owner_keys_unavailable",
        "body_memory_full",
    ];
    for rejection in everything {
        let reason = rejection.spec().reason;
        if elsewhere.contains(&reason) || matches!(rejection, Rejection::TokenInvalid(_)) {
            continue;
        }
        assert!(reached.contains(reason), "{reason} is reached by no test");
    }
}

#[test]
fn an_unknown_agent_a_wrong_and_an_expired_secret_answer_alike() {
    let refusals = [
        Forge { agent: Fact::NONE, ..Forge::by_secret() }.refusal(),
        Forge { secret: secret(99), ..Forge::by_secret() }.refusal(),
        Forge { secret: secret(12), ..Forge::by_secret() }.refusal(),
        Forge::by_secret().wrong_signature().refusal(),
        Forge::by_secret().edit_agent(|agent| agent.secrets = Arc::from([])).refusal(),
        Forge::by_secret().edit_agent(|agent| agent.legacy = true).refusal(),
        Forge::in_session().wrong_signature().refusal(),
        Forge { signer: Signer::Body, ..Forge::by_secret() }.refusal(),
    ];
    for refusal in refusals {
        let spec = refusal.spec();
        assert_eq!(spec.code, edgeward_wire::Code::SignatureInvalid, "{refusal:?}");
        assert_eq!(refusal.detail(), None, "{refusal:?}");
        assert_eq!(refusal.retry_after_ms(), None, "{refusal:?}");
        assert!(spec.counts, "{refusal:?}");
    }
}

#[test]
fn a_secret_in_grace_signs_until_its_grace_ends() {
    let in_grace = Forge { secret: secret(10), ..Forge::by_secret() };
    let admission = in_grace.run().unwrap();
    assert_eq!(admission.caller.secret_version, Some(1));
    assert_eq!(Forge::by_secret().run().unwrap().caller.secret_version, Some(2));
    // Grace ends while the body arrives.
    let late = Forge { assessed_at: later(60_000), timestamp: NOW.wall.0 + 5_000, ..in_grace };
    assert_eq!(late.verdict(), "wrong_signature");
    let just = Forge { assessed_at: later(59_999), ..late };
    assert_eq!(just.verdict(), "ok");
}

#[test]
fn an_admission_carries_what_was_proven() {
    let admission = Forge::in_session().run().unwrap();
    assert_eq!(admission.caller.agent.id, agent_id());
    assert_eq!(admission.caller.session.unwrap().id, crate::tests::forge::session_id(5).hash());
    assert_eq!(&admission.body[..], b"{}");
    assert_eq!(admission.endpoint.label(), "/open");
    assert_eq!(admission.client, crate::tests::forge::CLIENT.parse::<std::net::IpAddr>().unwrap());
}

#[test]
fn no_step_shows_a_credential() {
    use super::super::Presented;
    use crate::policy::Endpoint;
    use crate::read::credentials::shape;

    for forge in [
        base(Base::Session),
        base(Base::Start),
        Forge { signer: Signer::Header, ..Forge::by_secret() }
            .edit_policy(|policy| policy.allow_header_secret = true),
        Forge { signer: Signer::Nobody, ..Forge::by_secret() }
            .edit_policy(|policy| policy.require_hmac = false),
    ] {
        let (parts, _) = forge.request();
        let credentials: Vec<String> =
            ["authorization", "x-agent-secret", "x-session-id", "x-signature"]
                .iter()
                .filter_map(|name| parts.headers.get(*name))
                .map(|value| value.to_str().unwrap().trim_start_matches("Bearer ").to_owned())
                .collect();
        assert!(!credentials.is_empty());
        let shaped = shape(parts).unwrap();
        let mut shown = format!("{shaped:?}");
        let endpoint = Endpoint::Route(Arc::clone(forge.policy.routes.find("/open").unwrap()));
        let policy = Arc::clone(&forge.policy);
        let presented = Presented::read(shaped, endpoint, forge.client, policy, NOW);
        shown += &format!("{presented:?}");
        shown += &format!("{:?}", forge.commit().unwrap());
        if let Ok(admission) = forge.run() {
            shown += &format!("{:?} {:?}", admission.parts, admission.caller);
        }
        for credential in credentials {
            assert!(!shown.contains(&credential), "{credential} in {shown}");
        }
    }
}

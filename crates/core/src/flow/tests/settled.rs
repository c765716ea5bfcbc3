//! The claim's outcome, and the world once more after it.

use std::sync::Arc;

use super::super::{Facts, Outcome};
use crate::nonce::ClaimOutcome;
use crate::record::{Fact, Standing};
use crate::rejection::{Dependency, Rejection};
use crate::tests::forge::{Forge, agent, later, other_id, session, session_id};

fn claimed(outcome: ClaimOutcome) -> Rejection {
    Forge { outcome: Outcome::Claimed(outcome), ..Forge::in_session() }.refusal()
}

#[test]
fn what_the_claim_refuses_is_refused() {
    let rate = Forge::in_session().policy.rate;
    assert_eq!(claimed(ClaimOutcome::Replayed), Rejection::NonceReplayed);
    assert_eq!(claimed(ClaimOutcome::Stale), Rejection::Stale);
    assert_eq!(
        claimed(ClaimOutcome::RateLimited { retry_after_ms: 70, rate }),
        Rejection::RateLimited { retry_after_ms: 70, rate }
    );
    assert_eq!(claimed(ClaimOutcome::Full), Rejection::NonceMemoryFull);
    assert_eq!(
        claimed(ClaimOutcome::Starting { retry_after_ms: 80 }),
        Rejection::Starting { retry_after_ms: 80 }
    );
    assert_eq!(claimed(ClaimOutcome::SessionGone), Rejection::SessionUnknown);
    for (outcome, refusal) in [
        (Outcome::TooManyStreams, Rejection::TooManyStreams),
        (Outcome::Unavailable, Rejection::Unavailable(Dependency::Nonces)),
    ] {
        assert_eq!(Forge { outcome, ..Forge::in_session() }.refusal(), refusal);
    }
}

#[test]
fn whoever_lost_the_right_meanwhile_does_not_pass() {
    let changed = |edit: fn(Forge) -> Forge| Forge::in_session().meanwhile(edit).verdict();
    assert_eq!(changed(|forge| forge), "ok");
    assert_eq!(
        changed(|forge| forge.edit_agent(|agent| agent.standing = Standing::Blocked)),
        "blocked"
    );
    assert_eq!(
        changed(|forge| forge.edit_agent(|agent| agent.standing = Standing::Retired)),
        "retired"
    );
    assert_eq!(changed(|forge| Forge { agent: Fact::NONE, ..forge }), "retired");
    assert_eq!(changed(|forge| forge.edit_agent(|agent| agent.epoch = 4)), "wrong_signature");
    assert_eq!(changed(|forge| forge.edit_session(|session| session.epoch = 4)), "session_epoch");
    assert_eq!(changed(|forge| Forge { session: Fact::NONE, ..forge }), "session_unknown");
    assert_eq!(
        changed(|forge| Forge { agent: Fact::Unavailable, ..forge }),
        "database_unavailable"
    );
    assert_eq!(
        changed(|forge| Forge { session: Fact::Unavailable, ..forge }),
        "sessions_unavailable"
    );
    assert_eq!(
        changed(|forge| forge.edit_session(|session| session.id = session_id(6).hash())),
        "session_unknown"
    );
    assert_eq!(changed(|forge| forge.edit_agent(|agent| agent.id = other_id())), "retired");
}

#[test]
fn a_session_that_ran_out_at_the_claim_does_not_pass() {
    let forge = Forge { settled_at: later(600_000), ..Forge::in_session() };
    assert_eq!(forge.verdict(), "session_expired");
    // Unless it was extended.
    let extended = forge
        .meanwhile(|forge| forge.edit_session(|session| session.expires_at = later(700_000).mono));
    assert_eq!(extended.verdict(), "ok");
}

#[test]
fn without_a_session_only_the_agent_is_asked_again() {
    let forge = Forge::by_secret();
    let gone = forge.clone().meanwhile(|forge| Forge { session: Fact::NONE, ..forge });
    assert_eq!(gone.verdict(), "ok");
    let raised = forge.meanwhile(|forge| forge.edit_agent(|agent| agent.epoch = 4));
    assert_eq!(raised.verdict(), "wrong_signature");
}

#[test]
fn a_caller_holds_for_as_long_as_its_world_does() {
    let caller = Forge::in_session().run().unwrap().caller;
    let facts = |agent, session| Facts { agent, session, token_due: false };
    let known = || Fact::Answered(Some(Arc::new(agent())));
    let good = facts(known(), Fact::Answered(Some(session())));
    assert_eq!(caller.holds(&good, later(599_999)), Ok(()));
    assert_eq!(caller.holds(&good, later(600_000)), Err(Rejection::SessionExpired));
    let ended = facts(known(), Fact::NONE);
    assert_eq!(caller.holds(&ended, later(1)), Err(Rejection::SessionUnknown));
}

#[test]
fn answers_to_other_questions_are_no_answers() {
    // A store that confuses sessions or agents must not open a door.
    let session = Forge::in_session().edit_session(|session| session.id = session_id(6).hash());
    assert_eq!(session.verdict(), "session_unknown");
    let agent = Forge::by_secret().edit_agent(|agent| agent.id = other_id());
    assert_eq!(agent.verdict(), "unknown_agent");
    let both = Forge::in_session().edit_agent(|agent| agent.id = other_id());
    assert_ne!(both.verdict(), "ok");
}

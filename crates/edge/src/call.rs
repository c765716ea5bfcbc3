//! An agent's call, step by step: the shell around the core's flow. What is decided is decided
//! there; here facts are gathered and the claim is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use edgeward_core::Rejection;
use edgeward_core::flow::{
    Admission, Caller, Commit, Facts, Floor, Outcome, Presented, ProvenBy, Token,
};
use edgeward_core::nonce::{Claim, ClaimOutcome};
use edgeward_core::policy::Endpoint;
use edgeward_core::read::credentials::Shaped;
use edgeward_core::record::{Fact, Session};
use edgeward_core::time::{MonoMs, Now};
use edgeward_core::verify::jwt::VerifiedToken;
use edgeward_store::StoreError;
use edgeward_wire::{AgentId, SessionIdHash, header};
use http::HeaderValue;
use hyper::body::Incoming;

use crate::answer::Answer;
use crate::body;
use crate::clock::SystemClock;
use crate::directory::Secrets;
use crate::edge::{Edge, Failure, Journey, Refused};
use crate::streams::{Holder, StreamLease};
use crate::value::value;
use crate::violations::Concerned;

/// Since when the body-only signature is deprecated (RFC 9745, a structured date).
const BODY_SIGNATURE_DEPRECATED: &str = "@1767225600";

/// What an admission brings along that only the shell knows.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) admission: Admission,
    pub(crate) lease: Option<StreamLease>,
    pub(crate) needs: (Option<SessionIdHash>, AgentId),
}

impl Edge {
    /// Takes a call through all steps and to its endpoint.
    pub(crate) async fn agent_call(
        self: &Arc<Self>,
        endpoint: Endpoint,
        shaped: Shaped,
        body: Incoming,
        journey: &Journey,
    ) -> Result<Answer, Failure> {
        let started = SystemClock::instant();
        let mut concerned = Concerned { agent: None, verified: false, source: journey.client };
        let admitted = match self.admit(endpoint, shaped, body, journey, &mut concerned).await {
            Ok(admitted) => admitted,
            Err(rejection) => {
                return Err(Failure::Refused(Box::new(Refused {
                    rejection,
                    concerned: Some(concerned),
                })));
            }
        };
        self.meter.admitted(started.elapsed());
        let newest = admitted.admission.caller.agent.newest_version;
        let by = admitted.admission.caller.by;
        let mut answer = self.dispatch(admitted, journey, concerned).await?;
        if by == ProvenBy::BodySignature {
            self.meter.body_signed();
            answer
                .headers_mut()
                .insert("deprecation", HeaderValue::from_static(BODY_SIGNATURE_DEPRECATED));
        }
        if let Some(newest) = newest {
            answer.headers_mut().insert(header::X_SECRET_VERSION, value(newest.to_string()));
        }
        Ok(answer)
    }

    /// Steps 0 to 10. `concerned` learns whom a refusal would concern.
    async fn admit(
        &self,
        endpoint: Endpoint,
        shaped: Shaped,
        body: Incoming,
        journey: &Journey,
        concerned: &mut Concerned,
    ) -> Result<Admitted, Rejection> {
        let policy = Arc::clone(&journey.policy);
        let presented = Presented::read(shaped, endpoint, journey.client, policy, journey.began)?;
        let named = presented.named_agent();
        concerned.agent = Some(named);
        let budget = self.budgets.look(journey.client, Some(named), journey.began.mono);
        let floor = Floor { at: self.claims.replay_floor(named) };
        let screened = presented.screen(journey.began, floor, budget)?;

        let needs = screened.needs();
        let facts = self.facts(needs, journey.began).await;
        let checked = screened.begin(facts, journey.began)?;
        let within = Duration::from_millis(journey.policy.window_ms + journey.policy.ahead_ms);
        let body = body::read(body, checked.max_body(), within, &self.body_memory).await?;

        let now = self.clock.now();
        let text = checked.bearer().map(token_hash);
        let token = self.token(text.as_ref(), now);
        let signed = !checked.speaks_by_token_alone();
        let commit = checked.assess(now, body, token).inspect_err(|rejection| {
            concerned.verified = rejection.follows_proof(signed);
        })?;
        concerned.verified = true;
        let token = commit.token().cloned();

        let lease = self.stream_lease(&commit, journey, now);
        let outcome = match &lease {
            Err(_) => Outcome::TooManyStreams,
            Ok(_) => self.claim(commit.claim()).await,
        };
        // What was proven must hold still, now that the stream is registered and the nonce is ours.
        let now = self.clock.now();
        let facts = self.facts(needs, now).await;
        let admission = commit.settle(outcome, &facts, now)?;
        // Only what passed counts: a stranger's copies must not use up the agent's own turns.
        self.note_token(&admission, token, text, now);
        self.budgets.succeeded(journey.client, named, now.mono);
        Ok(Admitted { admission, lease: lease.ok().flatten(), needs })
    }

    /// What stores know of the session and the agent.
    pub(crate) async fn facts(&self, needs: (Option<SessionIdHash>, AgentId), now: Now) -> Facts {
        let session = match needs.0 {
            None => Fact::NONE,
            Some(id) => self.session(needs.1, &id).await,
        };
        let secrets = if needs.0.is_some() { Secrets::Left } else { Secrets::Needed };
        let agent = if self.is_up_to_date(now) {
            self.directory.look(needs.1, secrets, now).await
        } else {
            Fact::Unavailable
        };
        let token_due = needs.0.is_some_and(|id| self.is_token_due(&id));
        Facts { session, agent, token_due }
    }

    /// Whether this node can be sure that it knows of every block and every change of policy.
    pub(crate) fn knows_all(&self, now: Now) -> bool {
        self.confirmed.as_ref().is_none_or(|confirmed| confirmed.holds(now.mono))
    }

    /// The same, and that nothing is owed that a request must not pass over.
    pub(crate) fn is_up_to_date(&self, now: Now) -> bool {
        self.knows_all(now) && self.owed.permits(now.mono)
    }

    async fn session(&self, agent: AgentId, id: &SessionIdHash) -> Fact<Session> {
        match self.sessions.find_session(agent, id).await {
            Ok(session) => Fact::Answered(session),
            Err(error) => {
                tracing::error!(%error, "sessions could not be asked");
                Fact::Unavailable
            }
        }
    }

    /// Whether this request of the session is one that must bring a JWT.
    fn is_token_due(&self, session: &SessionIdHash) -> bool {
        let every = self.policy.load().jwt_every_n;
        let since = self.since_token.get(session).map_or(0, |count| count.load(Ordering::Relaxed));
        every > 0 && since.saturating_add(1) >= every
    }

    fn token(&self, text: Option<&[u8; 32]>, now: Now) -> Token {
        let remembered = text
            .and_then(|text| self.tokens.get(text))
            .filter(|(_, until)| now.mono < *until)
            .map(|(token, _)| token);
        Token { keys: self.ring.verifying_keys(), remembered }
    }

    /// Remembers a token that verified, and counts the requests that came without one.
    fn note_token(
        &self,
        admission: &Admission,
        token: Option<VerifiedToken>,
        text: Option<[u8; 32]>,
        now: Now,
    ) {
        let brought = token.is_some();
        if let (Some(token), Some(text)) = (token, text) {
            let until =
                now.mono.plus(self.lifetimes.token_cache_ms).min(now.mono_at(token.expires_at()));
            if self.tokens.get(&text).is_none_or(|(_, known)| now.mono >= known) {
                self.tokens.insert(text, (token, until));
            }
        }
        let Some(session) = &admission.caller.session else {
            return;
        };
        match self.since_token.get(&session.id) {
            Some(count) if brought => count.store(0, Ordering::Relaxed),
            Some(count) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                let first = AtomicU32::new(u32::from(!brought));
                self.since_token.insert(session.id, Arc::new(first));
            }
        }
    }

    /// A place among the streams, where the caller asks for a stream.
    fn stream_lease(
        &self,
        commit: &Commit,
        journey: &Journey,
        now: Now,
    ) -> Result<Option<StreamLease>, crate::streams::TooMany> {
        if !commit.wants_stream() {
            return Ok(None);
        }
        let caller = commit.caller();
        let ends_at = match &caller.session {
            Some(session) => session.expires_at,
            None => now.mono.plus(journey.policy.session_ttl_ms),
        };
        self.register_stream(caller, ends_at, journey).map(Some)
    }

    pub(crate) fn register_stream(
        &self,
        caller: &Caller,
        ends_at: MonoMs,
        journey: &Journey,
    ) -> Result<StreamLease, crate::streams::TooMany> {
        let holder = Holder {
            agent: caller.agent.id,
            epoch: caller.agent.epoch,
            session: caller.session.as_ref().map(|session| session.id),
        };
        self.streams.register(
            holder,
            ends_at,
            journey.origin.connection.clone(),
            self.lifetimes.max_streams,
        )
    }

    /// The claim; when the mark of the clock has lapsed it is renewed first, once.
    async fn claim(&self, claim: &Claim) -> Outcome {
        let made = match &self.continuity {
            None => Some(self.claims.claim_nonce_and_rate(claim).await),
            Some(continuity) => {
                let marked = async {
                    match self.claims.claim_nonce_and_rate(claim).await {
                        Err(StoreError::MarkLapsed) => {
                            continuity.renew().await?;
                            self.claims.claim_nonce_and_rate(claim).await
                        }
                        first => first,
                    }
                };
                continuity.watched(marked).await
            }
        };
        match made {
            None => Outcome::Claimed(ClaimOutcome::Stale),
            Some(Ok(outcome)) => Outcome::Claimed(outcome),
            Some(Err(error)) => {
                tracing::error!(%error, "a claim could not be decided");
                Outcome::Unavailable
            }
        }
    }
}

/// SHA-256 of a token's text: what it is remembered by.
pub(crate) fn token_hash(text: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut out = [0u8; 32];
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}

//! Steps 4 to 8: time once more, then the signature, and what the caller may do.

use std::sync::Arc;

use edgeward_wire::api::{Empty, SessionStart, TokenRefresh};
use edgeward_wire::enroll::device_proof_message;
use edgeward_wire::signature::StringToSign;
use edgeward_wire::{AgentId, header};
use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::body::HashedBody;
use super::{Checked, Proof, Request};
use crate::nonce::{Charge, Claim, NonceKey};
use crate::policy::{DeviceProof, Endpoint, SessionRule, TokenRule};
use crate::read::credentials::{BearerText, single};
use crate::read::json;
use crate::read::target::path_and_query;
use crate::record::{Agent, Session, Standing};
use crate::rejection::Rejection;
use crate::time::Now;
use crate::verify::jwt::{Expected, JwtKeys, VerifiedToken};
use crate::verify::signature;

/// What verifies the JWT: the ring, and the token itself where its signature was verified before.
#[derive(Debug, Clone)]
pub struct Token {
    /// The ring.
    pub keys: Arc<JwtKeys>,
    /// A token of exactly this text that was verified before.
    pub remembered: Option<VerifiedToken>,
}

/// Who the caller is, proven.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its record.
    pub agent: Arc<Agent>,
    /// Its session.
    pub session: Option<Session>,
    /// The version of the secret that stands behind the signature; none behind a JWT alone.
    pub secret_version: Option<u32>,
    /// What it proved itself by.
    pub by: ProvenBy,
}

/// What a caller proved itself by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvenBy {
    /// A signature of version 2.
    Signature,
    /// A JWT alone.
    Token,
    /// The secret itself: for development.
    HeaderSecret,
    /// The older signature, over the body alone.
    BodySignature,
}

/// What the body of an own endpoint asks, read after the signature held.
#[derive(Debug)]
pub enum Ask {
    /// `session/start`.
    SessionStart(SessionStart),
    /// `token/refresh`.
    TokenRefresh(TokenRefresh),
    /// The body is not the edge's to read.
    Opaque,
}

/// Everything is decided but the claim.
#[derive(Debug)]
pub struct Commit {
    pub(crate) request: Request,
    pub(crate) caller: Caller,
    pub(crate) body: HashedBody,
    pub(crate) ask: Ask,
    pub(crate) token: Option<VerifiedToken>,
    pub(crate) claim: Claim,
}

impl Checked {
    /// Steps 4 to 8, by a fresh clock: a slow body must not outlive the memory of its nonce.
    ///
    /// # Errors
    /// Every refusal from [`Rejection::ClockOutside`] to [`Rejection::NonceRequired`], in order.
    pub fn assess(self, now: Now, body: HashedBody, token: Token) -> Result<Commit, Rejection> {
        self.screened.check_time(now)?;
        self.check_session(now)?;
        let version = self.check_proof(now, &body)?;
        // From here on the caller is the agent, unless a token alone speaks for it.
        let Some(agent) = self.agent.clone() else {
            return Err(self.refuse_unknown(&token));
        };
        let Self { screened, session, token_due, .. } = self;
        let request = screened.request;
        let by = match &screened.proof {
            Proof::Signature { .. } => ProvenBy::Signature,
            Proof::Token => ProvenBy::Token,
            Proof::Secret(_) => ProvenBy::HeaderSecret,
            Proof::Body(_) => ProvenBy::BodySignature,
        };
        if by != ProvenBy::Token {
            check_standing(&request, &agent)?;
        }
        let verified = check_token(
            &request,
            &agent,
            session.is_some(),
            token_due,
            screened.bearer,
            token,
            now,
        )?;
        if by == ProvenBy::Token {
            // Whatever the rules say of tokens: where nothing else speaks for the caller, one must.
            if verified.is_none() {
                return Err(Rejection::CredentialsMissing);
            }
            check_standing(&request, &agent)?;
        }
        let ask = read_ask(&request, &body)?;
        check_device_proof(&request, &agent, session.is_some(), &ask)?;
        if !request.endpoint.scopes().iter().all(|scope| agent.scopes.contains(scope)) {
            return Err(Rejection::ScopeMissing);
        }
        let claim = build_claim(&request, &agent, session.as_ref(), screened.proof, by)?;
        let caller = Caller { agent, session, secret_version: version, by };
        Ok(Commit { request, caller, body, ask, token: verified, claim })
    }

    /// A JWT alone is verified even for an agent that there is not: a forged one must not tell
    /// which agents there are.
    fn refuse_unknown(&self, token: &Token) -> Rejection {
        match (&self.screened.proof, &self.screened.bearer) {
            (Proof::Token, Some(text)) => verify_token(&self.screened.request, &text.0, token)
                .err()
                .unwrap_or(Rejection::UnknownAgent),
            (Proof::Token, None)
            | (Proof::Signature { .. } | Proof::Secret(_) | Proof::Body(_), _) => {
                Rejection::UnknownAgent
            }
        }
    }

    /// Step 5.
    fn check_proof(&self, now: Now, body: &HashedBody) -> Result<Option<u32>, Rejection> {
        let agent = self.agent.as_deref();
        let request = &self.screened.request;
        let dummy = &request.policy.dummy_key;
        let version = match &self.screened.proof {
            Proof::Signature { signature, session, .. } => {
                let to_sign = string_to_sign(
                    request,
                    self.screened.named,
                    session.as_ref().map_or("", |id| id.expose()),
                    body,
                );
                let session = self.session.as_ref();
                signature::check(&to_sign, signature, session, agent, dummy, now.wall)?
            }
            Proof::Secret(secret) => signature::check_secret(secret, agent, dummy, now.wall)?,
            Proof::Body(signature) => {
                return signature::check_body(body.bytes(), signature, agent, dummy, now.wall)
                    .map(Some);
            }
            Proof::Token => return Ok(None),
        };
        if agent.is_some_and(|agent| agent.legacy) {
            return Err(Rejection::LegacySecret);
        }
        Ok(Some(version))
    }
}

/// A header that step 0 has judged; one that is absent is empty.
fn judged<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> &'a str {
    single(headers, name).ok().flatten().unwrap_or("")
}

fn string_to_sign<'a>(
    request: &'a Request,
    agent_id: AgentId,
    session_id: &'a str,
    body: &HashedBody,
) -> StringToSign<'a> {
    let headers = &request.parts.headers;
    StringToSign {
        audience: &request.policy.audience,
        agent_id,
        session_id,
        timestamp: judged(headers, &header::X_TIMESTAMP),
        nonce: judged(headers, &header::X_NONCE),
        method: request.parts.method.as_str(),
        target: path_and_query(&request.parts.uri),
        content_type: judged(headers, &http::header::CONTENT_TYPE),
        body: body.digest(),
    }
}

/// Step 6. A right signature from a wrong address is the best sign of theft there is.
fn check_standing(request: &Request, agent: &Agent) -> Result<(), Rejection> {
    match agent.standing {
        Standing::Active => {}
        Standing::Blocked => return Err(Rejection::Blocked),
        Standing::Retired => return Err(Rejection::Retired),
    }
    if request.endpoint.route().is_some_and(|route| !route.allowed.allows(request.client)) {
        return Err(Rejection::RouteAddress);
    }
    if !agent.allowed.allows(request.client) {
        return Err(Rejection::AgentAddress);
    }
    match request.endpoint {
        Endpoint::Unknown => Err(Rejection::RouteUnknown),
        Endpoint::SessionStart
        | Endpoint::SessionExtend
        | Endpoint::SessionEnd
        | Endpoint::TokenRefresh
        | Endpoint::Echo
        | Endpoint::Route(_) => Ok(()),
    }
}

/// Step 7, the JWT.
fn check_token(
    request: &Request,
    agent: &Agent,
    in_session: bool,
    due: bool,
    bearer: Option<BearerText>,
    token: Token,
    now: Now,
) -> Result<Option<VerifiedToken>, Rejection> {
    let required = match request.need.token {
        TokenRule::Ignored => return Ok(None),
        TokenRule::Required => true,
        TokenRule::BySession => !in_session || due,
        TokenRule::IfPresent => false,
    };
    let Some(text) = bearer else {
        return if required { Err(Rejection::TokenRequired) } else { Ok(None) };
    };
    let verified = verify_token(request, &text.0, &token)?;
    verified.check(agent.id, agent.epoch, now.wall).map_err(Rejection::TokenInvalid)?;
    Ok(Some(verified))
}

/// Verifies a JWT, unless one of this text was verified by the same ring before.
fn verify_token(request: &Request, text: &str, token: &Token) -> Result<VerifiedToken, Rejection> {
    if let Some(known) = &token.remembered
        && known.is_of(token.keys.generation)
    {
        return Ok(known.clone());
    }
    let expected = Expected { issuer: &request.policy.issuer, audience: &request.policy.audience };
    VerifiedToken::verify(text, &token.keys, expected).map_err(Rejection::TokenInvalid)
}

/// The bodies of the edge's own endpoints.
fn read_ask(request: &Request, body: &HashedBody) -> Result<Ask, Rejection> {
    fn typed<T: DeserializeOwned>(body: &HashedBody) -> Result<T, Rejection> {
        json::body(body.bytes()).map_err(|fault| Rejection::Malformed(fault.into()))
    }
    match request.endpoint {
        Endpoint::SessionStart => typed(body).map(Ask::SessionStart),
        Endpoint::TokenRefresh => typed(body).map(Ask::TokenRefresh),
        Endpoint::SessionExtend | Endpoint::SessionEnd => typed::<Empty>(body).map(|_| Ask::Opaque),
        Endpoint::Echo | Endpoint::Route(_) | Endpoint::Unknown => Ok(Ask::Opaque),
    }
}

/// Step 7, the device proof: checked wherever it is sent, asked for where it is due.
fn check_device_proof(
    request: &Request,
    agent: &Agent,
    in_session: bool,
    ask: &Ask,
) -> Result<(), Rejection> {
    let proof = match ask {
        Ask::SessionStart(ask) => {
            if ask.agent_id.is_some_and(|named| named != agent.id) {
                return Err(Rejection::Malformed("agent_id is not that of x-agent-id".into()));
            }
            ask.device_proof.as_deref()
        }
        Ask::TokenRefresh(ask) => ask.device_proof.as_deref(),
        Ask::Opaque => return Ok(()),
    };
    let Some(proof) = proof else {
        let due = request.policy.device_proof == DeviceProof::Session && !in_session;
        return if due { Err(Rejection::DeviceProofMissing) } else { Ok(()) };
    };
    let headers = &request.parts.headers;
    let message = device_proof_message(
        &request.policy.audience,
        agent.id,
        request.parts.method.as_str(),
        path_and_query(&request.parts.uri),
        judged(headers, &header::X_TIMESTAMP),
        judged(headers, &header::X_NONCE),
    );
    match &agent.device_key {
        Some(key) if key.accepts(message.as_bytes(), proof) => Ok(()),
        Some(_) | None => Err(Rejection::DeviceProofWrong),
    }
}

/// Step 9 begins: what to claim. A session may not be asked for by what cannot have one.
fn build_claim(
    request: &Request,
    agent: &Agent,
    session: Option<&Session>,
    proof: Proof,
    by: ProvenBy,
) -> Result<Claim, Rejection> {
    let (timestamp, nonce) = match proof {
        Proof::Signature { timestamp, nonce, .. } => (Some(timestamp), nonce),
        // An unsigned nonce protects nothing.
        Proof::Secret(_) | Proof::Body(_) | Proof::Token => (None, None),
    };
    debug_assert!(request.need.session != SessionRule::Required || timestamp.is_some());
    // The echo asks for a nonce since it is one of the edge's own signed calls. A token that speaks
    // alone signs nothing, so that the deployment's own rule is all there is.
    let excused = by == ProvenBy::Token
        && matches!(request.endpoint, Endpoint::Echo)
        && !request.policy.require_nonce;
    if request.need.nonce && !excused && nonce.is_none() {
        return Err(Rejection::NonceRequired);
    }
    let policy = &request.policy;
    let own = Charge { route: None, rate: agent.rate.unwrap_or(policy.rate) };
    let by_route = request
        .endpoint
        .route()
        .and_then(|route| route.rate.map(|rate| Charge { route: Some(route.index), rate }));
    Ok(Claim {
        agent: agent.id,
        session: session.map(|session| session.id),
        nonce: nonce.map(|nonce| NonceKey::of_verified(agent.id, nonce)),
        timestamp,
        window_ms: policy.window_ms,
        ahead_ms: policy.ahead_ms,
        nonce_ttl_ms: policy.nonce_ttl_ms,
        charges: [Some(own), by_route],
    })
}

impl Commit {
    /// What to claim, in one atomic step.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The verified caller.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The JWT that came along, verified; worth remembering.
    pub fn token(&self) -> Option<&VerifiedToken> {
        self.token.as_ref()
    }

    /// Whether the caller asks an upstream for a stream of events, which counts against its cap.
    pub fn wants_stream(&self) -> bool {
        self.request.endpoint.route().is_some() && self.accepts_events()
    }

    fn accepts_events(&self) -> bool {
        self.request
            .parts
            .headers
            .get_all(http::header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|one| one.trim().starts_with("text/event-stream")))
    }
}

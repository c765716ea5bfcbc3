//! What a deployment asks of a request: an immutable snapshot, swapped whole.

pub mod route;

use std::sync::Arc;

use edgeward_wire::{MacKey, Scope};
use http::Method;

use crate::address::AddressList;
use crate::limit::gcra::Rate;
use crate::time::WallMs;
pub use route::{Route, RouteTable};

/// The largest JSON body of the control plane, in bytes.
pub const MAX_CONTROL_BODY: u64 = 64 * 1024;
/// The largest body where no route says otherwise, in bytes.
pub const MAX_BODY: u64 = 1024 * 1024;

/// Until when the body-only signature of the older design is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodySignatures {
    /// Never.
    Refused,
    /// Without an end; for development.
    Taken,
    /// Until this moment.
    Until(WallMs),
}

/// Where the device key must sign besides rotation and pick-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceProof {
    /// Nowhere.
    Rotation,
    /// At every session start, and at a refresh signed by the secret.
    Session,
}

/// The rules of one deployment.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What signatures and tokens name as their audience.
    pub audience: Arc<str>,
    /// What tokens name as their issuer: the public URL.
    pub issuer: Arc<str>,
    /// Stands before every path, may be empty.
    pub base_path: Arc<str>,
    /// `EDGE_REQUIRE_HMAC`.
    pub require_hmac: bool,
    /// `EDGE_VERIFY_JWT`.
    pub verify_jwt: bool,
    /// `EDGE_ALLOW_HEADER_SECRET`.
    pub allow_header_secret: bool,
    /// `EDGE_ALLOW_BODY_SIGNATURE`.
    pub body_signatures: BodySignatures,
    /// `AGENT_SESSION_REQUIRED`.
    pub session_required: bool,
    /// `AGENT_REQUIRE_NONCE`.
    pub require_nonce: bool,
    /// `AGENT_DEVICE_PROOF`.
    pub device_proof: DeviceProof,
    /// `AGENT_HMAC_WINDOW_MS`.
    pub window_ms: u64,
    /// `AGENT_HMAC_AHEAD_MS`.
    pub ahead_ms: u64,
    /// `AGENT_NONCE_TTL_MS`.
    pub nonce_ttl_ms: u64,
    /// `AGENT_SESSION_TTL_MS`.
    pub session_ttl_ms: u64,
    /// `AGENT_SESSION_MAX_MS`.
    pub session_max_ms: u64,
    /// `AGENT_JWT_TTL_MS`.
    pub jwt_ttl_ms: u64,
    /// `AGENT_REQUIRE_JWT_EVERY_N`; zero for handshakes only.
    pub jwt_every_n: u32,
    /// `AGENT_RATELIMIT_PER_SEC` and `AGENT_RATELIMIT_BURST`.
    pub rate: Rate,
    /// The deployment's own address list.
    pub allowed: AddressList,
    /// The routes.
    pub routes: RouteTable,
    /// What is checked against where there is no key.
    pub dummy_key: MacKey,
}

/// Where a request goes before anything of it is believed.
#[derive(Debug, Clone)]
pub enum Destination {
    /// `GET /agent/healthz`.
    Health,
    /// `GET /.well-known/jwks.json`.
    Jwks,
    /// `GET /.well-known/identity-jwks.json`.
    IdentityJwks,
    /// `POST /agent/enroll/start`.
    EnrollStart,
    /// `POST /agent/enroll/challenge`.
    EnrollChallenge,
    /// `POST /agent/enroll/complete`.
    EnrollComplete,
    /// Everything that an agent must prove itself for.
    Agent(Endpoint),
}

/// Where a verified request goes.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// `POST /agent/session/start`.
    SessionStart,
    /// `POST /agent/session/extend`.
    SessionExtend,
    /// `POST /agent/session/end`.
    SessionEnd,
    /// `POST /agent/token/refresh`.
    TokenRefresh,
    /// `POST /agent/protected/echo`.
    Echo,
    /// To an upstream.
    Route(Arc<Route>),
    /// Nowhere; told to verified callers only.
    Unknown,
}

/// What an endpoint asks for as to sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionRule {
    /// Must be there.
    Required,
    /// May be there.
    Optional,
    /// Must not be there.
    Forbidden,
}

/// What an endpoint asks for as to JWTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRule {
    /// Must be there.
    Required,
    /// Must be there without a session, and on every n-th request of one.
    BySession,
    /// Must be valid where it is there.
    IfPresent,
    /// Is not looked at.
    Ignored,
}

/// What is asked of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements {
    /// Only version 2 signatures will do, whatever the deployment allows.
    pub signed: bool,
    /// Sessions.
    pub session: SessionRule,
    /// A nonce.
    pub nonce: bool,
    /// A JWT.
    pub token: TokenRule,
    /// Bytes of body.
    pub max_body: u64,
}

impl Policy {
    /// Where a request of this method and path goes.
    pub fn destination(&self, method: &Method, path: &str) -> Destination {
        let own = path.strip_prefix(&*self.base_path).filter(|rest| rest.starts_with('/'));
        let reads = *method == Method::GET || *method == Method::HEAD;
        let posts = *method == Method::POST;
        match own {
            Some("/agent/healthz") if reads => Destination::Health,
            Some("/.well-known/jwks.json") if reads => Destination::Jwks,
            Some("/.well-known/identity-jwks.json") if reads => Destination::IdentityJwks,
            Some("/agent/enroll/start") if posts => Destination::EnrollStart,
            Some("/agent/enroll/challenge") if posts => Destination::EnrollChallenge,
            Some("/agent/enroll/complete") if posts => Destination::EnrollComplete,
            Some("/agent/session/start") if posts => Destination::Agent(Endpoint::SessionStart),
            Some("/agent/session/extend") if posts => Destination::Agent(Endpoint::SessionExtend),
            Some("/agent/session/end") if posts => Destination::Agent(Endpoint::SessionEnd),
            Some("/agent/token/refresh") if posts => Destination::Agent(Endpoint::TokenRefresh),
            Some("/agent/protected/echo") if posts => Destination::Agent(Endpoint::Echo),
            // What is the edge's own is never an upstream's.
            Some(rest)
                if rest == "/agent"
                    || rest.starts_with("/agent/")
                    || rest.starts_with("/.well-known/") =>
            {
                Destination::Agent(Endpoint::Unknown)
            }
            Some(_) | None => Destination::Agent(
                self.routes
                    .find(path)
                    .map_or(Endpoint::Unknown, |route| Endpoint::Route(Arc::clone(route))),
            ),
        }
    }

    /// What is asked of a request to `endpoint`.
    pub fn requirements(&self, endpoint: &Endpoint) -> Requirements {
        let own = |session, token| Requirements {
            signed: true,
            session,
            nonce: true,
            token: if self.verify_jwt { token } else { TokenRule::Ignored },
            max_body: MAX_CONTROL_BODY,
        };
        let open = |session: bool, nonce: bool, max_body| Requirements {
            signed: false,
            session: if session || self.session_required {
                SessionRule::Required
            } else {
                SessionRule::Optional
            },
            nonce: nonce || self.require_nonce,
            token: if self.verify_jwt { TokenRule::BySession } else { TokenRule::Ignored },
            max_body,
        };
        match endpoint {
            Endpoint::SessionStart => own(SessionRule::Forbidden, TokenRule::Required),
            Endpoint::SessionExtend => own(SessionRule::Required, TokenRule::Required),
            Endpoint::SessionEnd => own(SessionRule::Required, TokenRule::IfPresent),
            Endpoint::TokenRefresh => own(SessionRule::Optional, TokenRule::Ignored),
            Endpoint::Echo => {
                Requirements { signed: self.require_hmac, ..open(false, true, MAX_BODY) }
            }
            Endpoint::Route(route) => open(
                route.require_session || route.sensitive,
                route.require_nonce || route.sensitive,
                route.max_body,
            ),
            Endpoint::Unknown => open(false, false, MAX_BODY),
        }
    }

    /// Whether the body-only signature is taken at `now`.
    pub fn takes_body_signatures(&self, now: WallMs) -> bool {
        match self.body_signatures {
            BodySignatures::Refused => false,
            BodySignatures::Taken => true,
            BodySignatures::Until(end) => now < end,
        }
    }
}

impl Endpoint {
    /// The scopes that are asked for.
    pub fn scopes(&self) -> &[Scope] {
        match self {
            Self::Route(route) => &route.scopes,
            Self::SessionStart
            | Self::SessionExtend
            | Self::SessionEnd
            | Self::TokenRefresh
            | Self::Echo
            | Self::Unknown => &[],
        }
    }

    /// The route, where it is one.
    pub fn route(&self) -> Option<&Arc<Route>> {
        match self {
            Self::Route(route) => Some(route),
            Self::SessionStart
            | Self::SessionExtend
            | Self::SessionEnd
            | Self::TokenRefresh
            | Self::Echo
            | Self::Unknown => None,
        }
    }

    /// The name in metrics and logs: bounded in number.
    pub fn label(&self) -> &str {
        match self {
            Self::SessionStart => "session_start",
            Self::SessionExtend => "session_extend",
            Self::SessionEnd => "session_end",
            Self::TokenRefresh => "token_refresh",
            Self::Echo => "echo",
            Self::Route(route) => &route.prefix,
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests;

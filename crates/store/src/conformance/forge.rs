//! Real claims: a request is signed and sent through every step up to its claim, since nothing else
//! makes one.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use edgeward_core::address::AddressList;
use edgeward_core::flow::{BodyHasher, Budget, Facts, Floor, Presented, Token};
use edgeward_core::limit::gcra::Rate;
use edgeward_core::nonce::Claim;
use edgeward_core::policy::{
    BodySignatures, DeviceProof, Endpoint, MAX_BODY, Policy, Route, RouteTable,
};
use edgeward_core::read::credentials::shape;
use edgeward_core::record::{Agent, Fact, Secret, Session, Standing};
use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_core::verify::jwt::JwtKeys;
use edgeward_wire::signature::{BodyDigest, StringToSign};
use edgeward_wire::{AgentId, AgentSecret, MacKey, OwnerId, Scope, SessionId, SessionKey, header};

use crate::shared::NewSession;

const AUDIENCE: &str = "conformance";
const TARGET: &str = "/work";

/// Makes claims of one agent.
#[derive(Debug)]
pub struct Forge {
    agent: Arc<Agent>,
    policy: Arc<Policy>,
}

impl Forge {
    /// How old a timestamp may be, in milliseconds.
    pub const WINDOW_MS: u64 = 2_000;
    /// How far ahead a timestamp may be, in milliseconds.
    pub const AHEAD_MS: u64 = 500;
    /// How long a nonce is remembered, in milliseconds.
    pub const NONCE_TTL_MS: u64 = 4_000;

    /// For the agent of this number, with a rate of its own.
    #[must_use]
    pub fn new(agent: u64, rate: Rate) -> Self {
        let secret = AgentSecret::from_random(&[7; 32]);
        let valid_until = WallMs(u64::MAX);
        let secret = Secret { version: 1, key: MacKey::of_secret(&secret), valid_until };
        Self {
            agent: Arc::new(Agent {
                id: agent_id(agent),
                owner: OwnerId::parse("owner").unwrap(),
                standing: Standing::Active,
                epoch: 1,
                allowed: AddressList::default(),
                scopes: Arc::new([]),
                rate: Some(rate),
                legacy: false,
                device_key: None,
                newest_version: Some(1),
                secrets: Arc::new([secret]),
            }),
            policy: Arc::new(policy(rate)),
        }
    }

    /// The agent's id.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.agent.id
    }

    /// A claim of a request that was stamped with `timestamp` and accepted at that moment.
    #[must_use]
    pub fn claim(&self, timestamp: WallMs, nonce: Option<&str>) -> Claim {
        self.claim_on(None, timestamp, nonce)
    }

    /// The same on a route that has a rate of its own.
    #[must_use]
    pub fn claim_on(&self, rate: Option<Rate>, timestamp: WallMs, nonce: Option<&str>) -> Claim {
        self.make(rate, timestamp, nonce, None)
    }

    /// The same in the session of this number, which lives at `mono`.
    #[must_use]
    pub fn claim_in(&self, session: u8, mono: MonoMs, wall: WallMs, nonce: Option<&str>) -> Claim {
        self.make(None, wall, nonce, Some((session, mono)))
    }

    /// The session of this number, started now, for `life_ms` and twice that at most.
    #[must_use]
    pub fn session(&self, number: u8, mono: MonoMs, life_ms: u64) -> NewSession {
        let key = SessionKey::from_bytes([number; 32]);
        let session = Session {
            id: SessionId::from_random(&[number; 32]).hash(),
            agent: self.agent.id,
            epoch: self.agent.epoch,
            secret_version: 1,
            key: MacKey::of_session(&key),
            expires_at: mono.plus(life_ms),
            max_expires_at: mono.plus(2 * life_ms),
        };
        let scopes = Arc::new([Scope::parse("read").unwrap(), Scope::parse("write").unwrap()]);
        NewSession { session, key, owner: self.agent.owner.clone(), scopes }
    }

    fn make(
        &self,
        rate: Option<Rate>,
        timestamp: WallMs,
        nonce: Option<&str>,
        session: Option<(u8, MonoMs)>,
    ) -> Claim {
        let now = Now { wall: timestamp, mono: session.map_or(MonoMs(0), |(_, mono)| mono) };
        let found = session.map(|(number, mono)| self.session(number, mono, 60_000).session);
        let endpoint = Endpoint::Route(Arc::new(Route {
            index: 3,
            prefix: TARGET.into(),
            require_nonce: false,
            require_session: false,
            sensitive: false,
            scopes: Vec::new(),
            allowed: AddressList::default(),
            rate,
            max_body: MAX_BODY,
        }));
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let facts = Facts {
            session: Fact::Answered(found),
            agent: Fact::Answered(Some(Arc::clone(&self.agent))),
            token_due: false,
        };
        let session = session.map(|(number, _)| number);
        let head = shape(self.head(timestamp, nonce, session)).unwrap();
        let commit = Presented::read(head, endpoint, client, Arc::clone(&self.policy), now)
            .and_then(|presented| presented.screen(now, Floor::default(), Budget { wait_ms: None }))
            .and_then(|screened| screened.begin(facts, now))
            .and_then(|checked| {
                let token = Token { keys: Arc::new(JwtKeys::default()), remembered: None };
                checked.assess(now, BodyHasher::new(0).finish(), token)
            });
        commit.unwrap().claim().clone()
    }

    fn head(
        &self,
        timestamp: WallMs,
        nonce: Option<&str>,
        session: Option<u8>,
    ) -> http::request::Parts {
        let timestamp = format!("{:013}", timestamp.0);
        let key = session.map_or_else(
            || self.agent.secrets[0].key.clone(),
            |number| MacKey::of_session(&SessionKey::from_bytes([number; 32])),
        );
        let session = session.map(|number| SessionId::from_random(&[number; 32]));
        let session = session.as_ref().map_or("", SessionId::expose);
        let signature = key.sign(&StringToSign {
            audience: AUDIENCE,
            agent_id: self.agent.id,
            session_id: session,
            timestamp: &timestamp,
            nonce: nonce.unwrap_or(""),
            method: "GET",
            target: TARGET,
            content_type: "",
            body: BodyDigest::of(b""),
        });
        let mut request = http::Request::get(TARGET)
            .header(header::X_AGENT_ID, self.agent.id.to_string())
            .header(header::X_TIMESTAMP, timestamp)
            .header(header::X_SIGNATURE, signature.header());
        for (name, value) in
            [(header::X_NONCE, nonce.unwrap_or("")), (header::X_SESSION_ID, session)]
        {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        request.body(()).unwrap().into_parts().0
    }
}

/// The agent of this number.
pub(super) fn agent_id(number: u64) -> AgentId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    AgentId::from_bytes(bytes)
}

fn policy(rate: Rate) -> Policy {
    Policy {
        audience: AUDIENCE.into(),
        issuer: AUDIENCE.into(),
        base_path: "".into(),
        require_hmac: true,
        verify_jwt: false,
        allow_header_secret: false,
        body_signatures: BodySignatures::Refused,
        session_required: false,
        require_nonce: false,
        device_proof: DeviceProof::Rotation,
        window_ms: Forge::WINDOW_MS,
        ahead_ms: Forge::AHEAD_MS,
        nonce_ttl_ms: Forge::NONCE_TTL_MS,
        session_ttl_ms: 600_000,
        session_max_ms: 86_400_000,
        jwt_ttl_ms: 3_600_000,
        jwt_every_n: 0,
        rate,
        allowed: AddressList::default(),
        routes: RouteTable::default(),
        dummy_key: MacKey::dummy(&[0; 32]),
    }
}

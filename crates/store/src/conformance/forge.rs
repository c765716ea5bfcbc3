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
use edgeward_core::record::{Agent, Fact, Secret, Standing};
use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_core::verify::jwt::JwtKeys;
use edgeward_wire::signature::{BodyDigest, StringToSign};
use edgeward_wire::{AgentId, AgentSecret, MacKey, OwnerId, header};

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
        let now = Now { wall: timestamp, mono: MonoMs(0) };
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
            session: Fact::NONE,
            agent: Fact::Answered(Some(Arc::clone(&self.agent))),
            token_due: false,
        };
        let head = shape(self.head(timestamp, nonce)).unwrap();
        let commit = Presented::read(head, endpoint, client, Arc::clone(&self.policy), now)
            .and_then(|presented| presented.screen(now, Floor::default(), Budget { wait_ms: None }))
            .and_then(|screened| screened.begin(facts, now))
            .and_then(|checked| {
                let token = Token { keys: Arc::new(JwtKeys::default()), remembered: None };
                checked.assess(now, BodyHasher::new(0).finish(), token)
            });
        commit.unwrap().claim().clone()
    }

    fn head(&self, timestamp: WallMs, nonce: Option<&str>) -> http::request::Parts {
        let timestamp = format!("{:013}", timestamp.0);
        let signature = self.agent.secrets[0].key.sign(&StringToSign {
            audience: AUDIENCE,
            agent_id: self.agent.id,
            session_id: "",
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
        if let Some(nonce) = nonce {
            request = request.header(header::X_NONCE, nonce);
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

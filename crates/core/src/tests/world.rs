//! The world that forged requests meet: a deployment, an agent, its session and its keys.

use std::sync::Arc;

use edgeward_wire::{
    AgentId, AgentSecret, DevicePublicKey, MacKey, OwnerId, Scope, SessionId, SessionKey,
    SessionSalt,
};

use super::mint::{self, AUDIENCE, ISSUER, KID};
use crate::address::AddressList;
use crate::limit::gcra::Rate;
use crate::policy::{BodySignatures, DeviceProof, MAX_BODY, Policy, Route, RouteTable};
use crate::record::{Agent, Secret, Session, Standing};
use crate::time::{MonoMs, Now, WallMs};
use crate::verify::jwt::{JwtKeys, VerifyingKey};

/// The moment of all tests.
pub const NOW: Now = Now { wall: WallMs(mint::NOW_SEC * 1000), mono: MonoMs(50_000_000) };
/// The agent's seed of a device key.
pub const DEVICE_SEED: u8 = 21;
/// Whence requests come.
pub const CLIENT: &str = "192.0.2.10";
/// The agent that everything here is about.
pub fn agent_id() -> AgentId {
    AgentId::parse(mint::AGENT).unwrap()
}

/// Another agent of the same store.
pub fn other_id() -> AgentId {
    AgentId::from_bytes([9; 16])
}

/// A secret of a seed.
pub fn secret(seed: u8) -> AgentSecret {
    AgentSecret::from_random(&[seed; 32])
}

/// A session id of a seed.
pub fn session_id(seed: u8) -> SessionId {
    SessionId::from_random(&[seed; 32])
}

/// The key of a session that `secret` started.
pub fn session_key(secret: &AgentSecret, id: &SessionId) -> MacKey {
    MacKey::of_session(&SessionKey::derive(secret, id, &SessionSalt::from_random(&[3; 32])))
}

/// Scopes by name.
pub fn scopes(names: &[&str]) -> Vec<Scope> {
    names.iter().map(|name| Scope::parse(name).unwrap()).collect()
}

/// Networks by text.
pub fn networks(texts: &[&str]) -> AddressList {
    AddressList::new(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
}

/// A secret's record.
pub fn secret_record(version: u32, secret: &AgentSecret, valid_until: WallMs) -> Secret {
    Secret { version, key: MacKey::of_secret(secret), valid_until }
}

/// The agent's record: version 2 active, version 1 (seed 10) in grace, version 0 (seed 12) past it.
pub fn agent() -> Agent {
    Agent {
        id: agent_id(),
        owner: OwnerId::parse("owner-1").unwrap(),
        standing: Standing::Active,
        epoch: 3,
        allowed: AddressList::default(),
        scopes: scopes(&["chat", "read"]).into(),
        rate: None,
        legacy: false,
        device_key: Some(DevicePublicKey::Ed25519(mint::ed25519_public(DEVICE_SEED))),
        newest_version: Some(2),
        secrets: vec![
            secret_record(2, &secret(11), NOW.wall.plus(86_400_000)),
            secret_record(1, &secret(10), NOW.wall.plus(60_000)),
            secret_record(0, &secret(12), NOW.wall),
        ]
        .into(),
    }
}

/// The session's record.
pub fn session() -> Session {
    Session {
        id: session_id(5).hash(),
        agent: agent_id(),
        epoch: 3,
        secret_version: 2,
        key: session_key(&secret(11), &session_id(5)),
        expires_at: NOW.mono.plus(600_000),
        max_expires_at: NOW.mono.plus(86_400_000),
    }
}

/// A route that asks for nothing of its own.
pub fn route(index: u32, prefix: &str) -> Route {
    Route {
        index,
        prefix: prefix.to_owned(),
        require_nonce: false,
        require_session: false,
        sensitive: false,
        scopes: Vec::new(),
        allowed: AddressList::default(),
        rate: None,
        max_body: MAX_BODY,
    }
}

/// The routes of [`policy`]; the first is `/open`.
pub fn routes() -> Vec<Route> {
    vec![
        route(0, "/open"),
        Route { require_session: true, ..route(1, "/session") },
        Route { require_nonce: true, ..route(2, "/nonce") },
        Route { sensitive: true, ..route(3, "/sensitive") },
        Route { scopes: scopes(&["chat", "read"]), ..route(4, "/scoped") },
        Route { scopes: scopes(&["chat", "admin"]), ..route(5, "/denied") },
        Route { allowed: networks(&["10.0.0.0/8"]), ..route(6, "/fenced") },
        Route { max_body: 16, ..route(7, "/small") },
        Route { rate: Some(Rate { per_sec: 1, burst: 2 }), ..route(8, "/rated") },
    ]
}

/// The deployment: production settings.
pub fn policy() -> Policy {
    Policy {
        audience: AUDIENCE.into(),
        issuer: ISSUER.into(),
        base_path: "".into(),
        require_hmac: true,
        verify_jwt: true,
        allow_header_secret: false,
        body_signatures: BodySignatures::Refused,
        session_required: false,
        require_nonce: false,
        device_proof: DeviceProof::Rotation,
        window_ms: 60_000,
        ahead_ms: 5_000,
        nonce_ttl_ms: 66_000,
        session_ttl_ms: 600_000,
        session_max_ms: 86_400_000,
        jwt_ttl_ms: 600_000,
        jwt_every_n: 0,
        rate: Rate { per_sec: 10, burst: 20 },
        allowed: AddressList::default(),
        routes: RouteTable::new(routes()),
        dummy_key: MacKey::dummy(&[77; 32]),
    }
}

/// The ring that verifies agents' tokens.
pub fn keys() -> Arc<JwtKeys> {
    let key = VerifyingKey::Ed25519(mint::ed25519_public(7));
    Arc::new(JwtKeys { keys: mint::ring(&[(KID, key)]), generation: 1 })
}

/// A good token of the agent.
pub fn token() -> String {
    mint::eddsa(KID, &mint::agent_claims(), 7)
}

/// Now and `ms` more, by both clocks.
pub fn later(ms: u64) -> Now {
    Now { wall: NOW.wall.plus(ms), mono: NOW.mono.plus(ms) }
}

//! How long verifying one signed request takes: parse, digest, HMAC, decision; no I/O.
//!
//! `cargo bench -p edgeward-core --bench verify`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and may fail loudly"
)]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use edgeward_core::address::AddressList;
use edgeward_core::flow::{BodyHasher, Budget, Facts, Floor, Outcome, Presented, Token};
use edgeward_core::limit::gcra::Rate;
use edgeward_core::nonce::ClaimOutcome;
use edgeward_core::policy::{BodySignatures, Destination, DeviceProof, Policy, Route, RouteTable};
use edgeward_core::read::credentials::shape;
use edgeward_core::record::{Agent, Fact, Session, Standing};
use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_core::verify::jwt::JwtKeys;
use edgeward_wire::signature::BodyDigest;
use edgeward_wire::{
    AgentId, AgentSecret, MacKey, OwnerId, SessionId, SessionKey, SessionSalt, StringToSign, header,
};
use http::Request;
use http::request::Parts;

const NOW: Now = Now { wall: WallMs(1_764_000_000_000), mono: MonoMs(1_000_000) };
const ROUNDS: usize = 15;

struct World {
    policy: Arc<Policy>,
    facts: Facts,
    session: SessionId,
    key: MacKey,
    agent: AgentId,
}

fn world() -> World {
    let agent = AgentId::from_bytes([7; 16]);
    let secret = AgentSecret::from_random(&[1; 32]);
    let session = SessionId::from_random(&[2; 32]);
    let key = SessionKey::derive(&secret, &session, &SessionSalt::from_random(&[3; 32]));
    let key = MacKey::of_session(&key);
    let record = Agent {
        id: agent,
        owner: OwnerId::parse("owner").unwrap(),
        standing: Standing::Active,
        epoch: 1,
        allowed: AddressList::default(),
        scopes: [].into(),
        rate: None,
        legacy: false,
        device_key: None,
        newest_version: Some(1),
        secrets: [].into(),
    };
    let facts = Facts {
        session: Fact::Answered(Some(Session {
            id: session.hash(),
            agent,
            epoch: 1,
            secret_version: 1,
            key: key.clone(),
            expires_at: NOW.mono.plus(600_000),
            max_expires_at: NOW.mono.plus(86_400_000),
        })),
        agent: Fact::Answered(Some(Arc::new(record))),
        token_due: false,
    };
    World { policy: Arc::new(policy()), facts, session, key, agent }
}

fn policy() -> Policy {
    let route = Route {
        index: 0,
        prefix: "/v1/".to_owned(),
        require_nonce: true,
        require_session: true,
        sensitive: false,
        scopes: Vec::new(),
        allowed: AddressList::default(),
        rate: None,
        max_body: 1024 * 1024,
    };
    Policy {
        audience: "edgeward".into(),
        issuer: "https://edge.example".into(),
        base_path: "".into(),
        require_hmac: true,
        verify_jwt: true,
        allow_header_secret: false,
        body_signatures: BodySignatures::Refused,
        session_required: true,
        require_nonce: true,
        device_proof: DeviceProof::Rotation,
        window_ms: 60_000,
        ahead_ms: 5_000,
        nonce_ttl_ms: 120_000,
        session_ttl_ms: 600_000,
        session_max_ms: 86_400_000,
        jwt_ttl_ms: 3_600_000,
        jwt_every_n: 20,
        rate: Rate { per_sec: 10, burst: 20 },
        allowed: AddressList::default(),
        routes: RouteTable::new([route]),
        dummy_key: MacKey::dummy(&[9; 32]),
    }
}

fn request(world: &World, body: &[u8]) -> Parts {
    let to_sign = StringToSign {
        audience: "edgeward",
        agent_id: world.agent,
        session_id: world.session.expose(),
        timestamp: "1764000000000",
        nonce: "AAAAAAAAAAAAAAAAAAAAAA",
        method: "POST",
        target: "/v1/chat?stream=true",
        content_type: "application/json",
        body: BodyDigest::of(body),
    };
    Request::post("/v1/chat?stream=true")
        .header("host", "edge.example")
        .header("user-agent", "bench")
        .header("accept", "*/*")
        .header("content-type", "application/json")
        .header(header::X_AGENT_ID, world.agent.to_string())
        .header(header::X_TIMESTAMP, "1764000000000")
        .header(header::X_NONCE, "AAAAAAAAAAAAAAAAAAAAAA")
        .header(header::X_SESSION_ID, world.session.expose())
        .header(header::X_SIGNATURE, world.key.sign(&to_sign).header())
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn verify(world: &World, parts: Parts, body: Bytes, token: Token) {
    let shaped = shape(parts).unwrap();
    let Destination::Agent(endpoint) = world.policy.destination(shaped.method(), shaped.path())
    else {
        unreachable!("the path is a route's")
    };
    let client = IpAddr::from([192, 0, 2, 1]);
    let presented =
        Presented::read(shaped, endpoint, client, Arc::clone(&world.policy), NOW).unwrap();
    let screened = presented.screen(NOW, Floor { at: None }, Budget { wait_ms: None }).unwrap();
    black_box(screened.needs());
    let checked = screened.begin(world.facts.clone(), NOW).unwrap();
    let mut hasher = BodyHasher::new(checked.max_body());
    hasher.push(body).unwrap();
    let commit = checked.assess(NOW, hasher.finish(), token).unwrap();
    let outcome = Outcome::Claimed(ClaimOutcome::Granted);
    black_box(commit.settle(outcome, &world.facts, NOW).unwrap());
}

fn main() {
    let world = world();
    let token = Token { keys: Arc::new(JwtKeys::default()), remembered: None };
    println!("verification alone: shape, route, credentials, digest, HMAC, decision");
    for (name, size, count) in [
        ("0 B", 0, 20_000),
        ("200 B", 200, 20_000),
        ("1 KiB", 1024, 20_000),
        ("64 KiB", 65_536, 2_000),
    ] {
        let body = Bytes::from(vec![b'x'; size]);
        let parts = request(&world, &body);
        let mut medians: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                // What the HTTP library would have made is made outside the measured time.
                let inputs: Vec<Parts> = (0..count).map(|_| parts.clone()).collect();
                let start = Instant::now();
                for parts in inputs {
                    verify(&world, parts, body.clone(), token.clone());
                }
                start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        println!(
            "  {name:>7}: {:6.2} µs a request (median of {ROUNDS}; {:.2} to {:.2})",
            medians.get(ROUNDS / 2).unwrap(),
            medians.first().unwrap(),
            medians.last().unwrap()
        );
    }
}

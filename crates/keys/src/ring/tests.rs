use edgeward_core::read::bearer::JwtFault;
use edgeward_core::verify::jwt::{Expected, VerifiedToken};
use edgeward_wire::{AgentId, OwnerId, Scope};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};

use super::*;
use crate::testing::{FixedClock, MemoryRows, NOW, NoEntropy, sealer, system};

const ISSUER: &str = "https://edge.example";
const AUDIENCE: &str = "edgeward-test";
const EXPECTED: Expected<'static> = Expected { issuer: ISSUER, audience: AUDIENCE };
const BOTH: [SigningAlg; 2] = [SigningAlg::EdDsa, SigningAlg::Es256];

async fn ring(rows: &MemoryRows, purpose: KeyPurpose, alg: SigningAlg) -> KeyRing {
    load(rows, purpose, alg).await.unwrap()
}

async fn load(
    rows: &MemoryRows,
    purpose: KeyPurpose,
    alg: SigningAlg,
) -> Result<KeyRing, KeysError> {
    let sealer = sealer(rows).await;
    KeyRing::load(rows, &sealer, purpose, alg, &FixedClock, system()).await
}

fn agent() -> AgentId {
    AgentId::from_bytes([7; 16])
}

fn mint(ring: &KeyRing) -> String {
    let owner = OwnerId::parse("owner-1").unwrap();
    let scopes = [Scope::parse("llm:chat").unwrap(), Scope::parse("files").unwrap()];
    let claims = AgentTokenClaims {
        issuer: ISSUER,
        audience: AUDIENCE,
        agent: agent(),
        owner: &owner,
        scopes: &scopes,
        epoch: 3,
        expires_at: NOW.wall.plus(3_600_999),
    };
    ring.mint_agent_token(&claims, NOW.wall).unwrap()
}

fn mint_identity(ring: &KeyRing) -> Result<String, KeysError> {
    let owner = OwnerId::parse("owner-1").unwrap();
    let claims = IdentityTokenClaims {
        issuer: ISSUER,
        audience: "upstream",
        agent: agent(),
        owner: &owner,
        role: "edgeward_agent",
    };
    ring.mint_identity_token(&claims, NOW.wall)
}

/// Another implementation, which knows of the keys by their published set alone.
fn verify_elsewhere(jwks: &str, token: &str, audience: &str) -> (Value, Value) {
    let set: JwkSet = serde_json::from_str(jwks).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let jwk = set.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[ISSUER]);
    // The tests' clock is not the machine's.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let key = DecodingKey::from_jwk(jwk).unwrap();
    let data = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap();
    (serde_json::to_value(header).unwrap(), data.claims)
}

fn set(jwks: &str) -> Vec<Value> {
    let set: Value = serde_json::from_str(jwks).unwrap();
    assert_eq!(set.as_object().unwrap().len(), 1);
    set["keys"].as_array().unwrap().clone()
}

fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn an_agents_token_says_exactly_what_the_protocol_says() {
    let ring = ring(&MemoryRows::default(), KeyPurpose::Agent, SigningAlg::EdDsa).await;
    let token = mint(&ring);
    let (_, claims) = verify_elsewhere(&ring.jwks(), &token, AUDIENCE);
    let now = NOW.wall.seconds();
    assert_eq!(
        members(&claims),
        [
            "aud",
            "epoch",
            "exp",
            "iat",
            "iss",
            "jti",
            "nbf",
            "owner_user_id",
            "role",
            "scopes",
            "sub"
        ]
    );
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["aud"], AUDIENCE);
    assert_eq!(claims["sub"], agent().to_string());
    assert_eq!(claims["owner_user_id"], "owner-1");
    assert_eq!(claims["scopes"], json!(["llm:chat", "files"]));
    assert_eq!(claims["role"], "agent");
    assert_eq!(claims["epoch"], 3);
    assert_eq!((&claims["iat"], &claims["nbf"]), (&json!(now), &json!(now)));
    assert_eq!(claims["exp"], now + 3600, "rounded down");
    assert_eq!(claims["jti"].as_str().unwrap().len(), 22);
    let (_, again) = verify_elsewhere(&ring.jwks(), &mint(&ring), AUDIENCE);
    assert_ne!(claims["jti"], again["jti"]);

    let header = token.split('.').next().unwrap();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header);
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    assert_eq!(header, json!({"typ": "JWT", "alg": "EdDSA", "kid": ring.active_kid()}));
}

#[tokio::test]
async fn our_own_gate_and_another_implementation_both_take_it() {
    for alg in BOTH {
        let ring = ring(&MemoryRows::default(), KeyPurpose::Agent, alg).await;
        let token = mint(&ring);
        let keys = ring.verifying_keys();
        let verified = VerifiedToken::verify(&token, &keys, EXPECTED).unwrap();
        assert_eq!(verified.check(agent(), 3, NOW.wall), Ok(()));
        assert_eq!(verified.check(agent(), 3, NOW.wall.plus(3_600_000)), Err(JwtFault::Expired));
        let (header, _) = verify_elsewhere(&ring.jwks(), &token, AUDIENCE);
        assert_eq!(header["alg"], alg.as_str());
        assert_eq!(ring.active_alg(), alg);
        // A stranger's key of the same sort does not do.
        let other = self::ring(&MemoryRows::default(), KeyPurpose::Agent, alg).await;
        let fault = VerifiedToken::verify(&token, &other.verifying_keys(), EXPECTED).unwrap_err();
        assert_eq!(fault, JwtFault::UnknownKey);
    }
}

#[tokio::test]
async fn an_upstreams_token_is_short_and_by_keys_of_its_own() {
    for alg in BOTH {
        let rows = MemoryRows::default();
        let agents = ring(&rows, KeyPurpose::Agent, alg).await;
        let identity = ring(&rows, KeyPurpose::Identity, alg).await;
        assert_ne!(agents.active_kid(), identity.active_kid());
        let token = mint_identity(&identity).unwrap();
        let (header, claims) = verify_elsewhere(&identity.jwks(), &token, "upstream");
        assert_eq!((&header["typ"], &header["alg"]), (&json!("JWT"), &json!(alg.as_str())));
        let now = NOW.wall.seconds();
        assert_eq!(
            members(&claims),
            ["agent_id", "aud", "exp", "iat", "iss", "jti", "nbf", "owner_user_id", "role", "sub"]
        );
        assert_eq!(claims["agent_id"], agent().to_string());
        assert_eq!(claims["sub"], agent().to_string());
        assert_eq!(claims["owner_user_id"], "owner-1");
        assert_eq!(claims["role"], "edgeward_agent");
        assert_eq!(claims["aud"], "upstream");
        assert_eq!((&claims["iat"], &claims["nbf"]), (&json!(now), &json!(now)));
        assert_eq!(claims["exp"], now + 60);
        // Neither ring signs for the other, and the edge's own gate takes none of the other's.
        assert_eq!(mint_identity(&agents), Err(KeysError::OtherPurpose("agent")));
        let fault = VerifiedToken::verify(&token, &agents.verifying_keys(), EXPECTED).unwrap_err();
        assert_eq!(fault, JwtFault::UnknownKey);
    }
}

#[tokio::test]
async fn a_ring_for_upstreams_mints_no_agent_token() {
    let ring = ring(&MemoryRows::default(), KeyPurpose::Identity, SigningAlg::EdDsa).await;
    let owner = OwnerId::parse("owner-1").unwrap();
    let claims = AgentTokenClaims {
        issuer: ISSUER,
        audience: AUDIENCE,
        agent: agent(),
        owner: &owner,
        scopes: &[],
        epoch: 1,
        expires_at: NOW.wall,
    };
    let minted = ring.mint_agent_token(&claims, NOW.wall);
    assert_eq!(minted, Err(KeysError::OtherPurpose("identity")));
}

#[tokio::test]
async fn the_published_set_has_public_members_only_and_thumbprints_for_names() {
    for (alg, expected) in [
        (SigningAlg::EdDsa, vec!["alg", "crv", "kid", "kty", "use", "x"]),
        (SigningAlg::Es256, vec!["alg", "crv", "kid", "kty", "use", "x", "y"]),
    ] {
        let ring = ring(&MemoryRows::default(), KeyPurpose::Agent, alg).await;
        let keys = set(&ring.jwks());
        assert_eq!(keys.len(), 1);
        assert_eq!(members(&keys[0]), expected);
        assert_eq!((&keys[0]["use"], &keys[0]["alg"]), (&json!("sig"), &json!(alg.as_str())));
        let parsed: jsonwebtoken::jwk::Jwk = serde_json::from_value(keys[0].clone()).unwrap();
        let print = parsed.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
        assert_eq!(keys[0]["kid"], print, "RFC 7638 by another implementation");
        assert_eq!(keys[0]["kid"], ring.active_kid());
        // And our own reader of others' sets takes it.
        let read = crate::jwks::JwkSet::read(ring.jwks().as_bytes()).unwrap();
        assert_eq!((read.keys.len(), read.skipped), (1, 0));
    }
}

#[tokio::test]
async fn a_first_start_tells_of_its_key_and_a_second_makes_none() {
    let rows = MemoryRows::default();
    let first = ring(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await;
    let token = mint(&first);
    // Asked for another algorithm, the stored key goes on.
    let second = ring(&rows, KeyPurpose::Agent, SigningAlg::Es256).await;
    assert_eq!(second.active_alg(), SigningAlg::EdDsa);
    assert!(VerifiedToken::verify(&token, &second.verifying_keys(), EXPECTED).is_ok());
    let events = rows.events.lock().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::JwtKeyPublished, EventKind::JwtKeyActivated]);
    for event in events.iter() {
        assert_eq!(event.payload["kid"], first.active_kid());
        assert_eq!(event.payload["alg"], "EdDSA");
        assert_eq!(event.payload["purpose"], "agent");
        assert_eq!(event.occurred_at, NOW.wall);
    }
}

#[tokio::test]
async fn two_first_starts_at_once_sign_by_one_key() {
    let rows = MemoryRows::for_two_starts();
    // The data key comes first and has a meeting of its own.
    let (one, other) = tokio::join!(
        load(&rows, KeyPurpose::Agent, SigningAlg::EdDsa),
        load(&rows, KeyPurpose::Agent, SigningAlg::EdDsa)
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.active_kid(), other.active_kid());
    assert!(VerifiedToken::verify(&mint(&one), &other.verifying_keys(), EXPECTED).is_ok());
    assert_eq!(rows.signing.lock().unwrap().len(), 1);
    assert_eq!(rows.events.lock().unwrap().len(), 2);
}

/// A key made as if it were the first, for the tests of what a roll leaves behind.
async fn add_key(rows: &MemoryRows, alg: SigningAlg, status: KeyStatus) -> String {
    let sealer = sealer(rows).await;
    let row = new_key(&sealer, KeyPurpose::Agent, alg, NOW.wall, &*system()).unwrap();
    let kid = row.kid.clone();
    rows.signing.lock().unwrap().push(SigningKeyRow { status, ..row });
    kid
}

fn stand(rows: &MemoryRows, kid: &str, status: KeyStatus) {
    let mut rows = rows.signing.lock().unwrap();
    rows.iter_mut().find(|row| row.kid == kid).unwrap().status = status;
}

#[tokio::test]
async fn a_changed_ring_has_another_generation_and_an_unchanged_one_keeps_its_own() {
    let rows = MemoryRows::default();
    let ring = ring(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await;
    let sealer = sealer(&rows).await;
    let first = ring.active_kid();
    let token = VerifiedToken::verify(&mint(&ring), &ring.verifying_keys(), EXPECTED).unwrap();
    let mut seen = vec![ring.verifying_keys().generation];
    assert!(token.is_of(seen[0]));
    assert!(!ring.reload(&rows, &sealer).await.unwrap());
    assert_eq!(ring.verifying_keys().generation, seen[0]);

    let next = add_key(&rows, SigningAlg::Es256, KeyStatus::Next).await;
    assert!(ring.reload(&rows, &sealer).await.unwrap());
    seen.push(ring.verifying_keys().generation);
    assert_eq!(set(&ring.jwks()).len(), 2, "a next key is published");
    assert!(ring.verifying_keys().keys.contains_key(&next));
    assert_eq!(ring.active_kid(), first, "and does not sign yet");

    stand(&rows, &first, KeyStatus::Retiring);
    stand(&rows, &next, KeyStatus::Active);
    let old = mint(&ring);
    assert!(ring.reload(&rows, &sealer).await.unwrap());
    seen.push(ring.verifying_keys().generation);
    assert_eq!((ring.active_kid(), ring.active_alg()), (next.clone(), SigningAlg::Es256));
    assert!(VerifiedToken::verify(&old, &ring.verifying_keys(), EXPECTED).is_ok());
    assert!(VerifiedToken::verify(&mint(&ring), &ring.verifying_keys(), EXPECTED).is_ok());

    stand(&rows, &first, KeyStatus::Retired);
    assert!(ring.reload(&rows, &sealer).await.unwrap());
    seen.push(ring.verifying_keys().generation);
    assert_eq!(set(&ring.jwks()).len(), 1);
    let fault = VerifiedToken::verify(&old, &ring.verifying_keys(), EXPECTED).unwrap_err();
    assert_eq!(fault, JwtFault::UnknownKey);
    assert!(!token.is_of(seen[3]));
    let mut distinct = seen.clone();
    distinct.dedup();
    distinct.sort_unstable();
    assert_eq!(distinct, seen, "ever growing");
}

#[tokio::test]
async fn a_key_that_its_row_does_not_prove_stops_the_start_and_leaves_a_running_ring() {
    type Damage = fn(&mut SigningKeyRow);
    let damage: [(&str, Damage); 5] = [
        ("altered", |row| row.sealed.0[40] ^= 1),
        ("renamed", |row| row.kid.replace_range(0..1, "_")),
        ("of another algorithm", |row| row.alg = "ES256".to_owned()),
        ("of no algorithm", |row| row.alg = "none".to_owned()),
        ("never sealed", |row| row.sealed.0.clear()),
    ];
    for (what, damage) in damage {
        let rows = MemoryRows::default();
        let ring = ring(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await;
        let token = mint(&ring);
        add_key(&rows, SigningAlg::EdDsa, KeyStatus::Retiring).await;
        damage(&mut rows.signing.lock().unwrap()[1]);
        assert!(load(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await.is_err(), "{what}");
        assert!(ring.reload(&rows, &sealer(&rows).await).await.is_err(), "{what}");
        assert!(VerifiedToken::verify(&token, &ring.verifying_keys(), EXPECTED).is_ok());
    }
}

#[tokio::test]
async fn a_public_key_that_somebody_wrote_into_the_store_verifies_nothing() {
    let rows = MemoryRows::default();
    let honest = ring(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await.jwks();
    let foreign =
        set(&ring(&MemoryRows::default(), KeyPurpose::Agent, SigningAlg::EdDsa).await.jwks());
    rows.signing.lock().unwrap()[0].public_jwk = foreign[0].clone();
    let again = ring(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await;
    assert_eq!(again.jwks(), honest, "derived from the private key, not read");
}

#[tokio::test]
async fn a_key_of_the_other_purpose_does_not_open() {
    let rows = MemoryRows::default();
    ring(&rows, KeyPurpose::Identity, SigningAlg::EdDsa).await;
    rows.signing.lock().unwrap()[0].purpose = KeyPurpose::Agent;
    let fault = load(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await.unwrap_err();
    assert_eq!(fault, KeysError::Sealed);
}

#[tokio::test]
async fn keys_of_which_none_is_active_stop_the_start() {
    let rows = MemoryRows::default();
    let kid = ring(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await.active_kid();
    stand(&rows, &kid, KeyStatus::Retiring);
    let fault = load(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await.unwrap_err();
    assert_eq!(fault, KeysError::NoActiveKey("agent"));
}

#[tokio::test]
async fn without_randomness_nothing_is_made_or_minted() {
    let rows = MemoryRows::default();
    let sealer = sealer(&rows).await;
    let none: Arc<dyn Entropy> = Arc::new(NoEntropy);
    let first = KeyRing::load(
        &rows,
        &sealer,
        KeyPurpose::Identity,
        SigningAlg::EdDsa,
        &FixedClock,
        Arc::clone(&none),
    );
    assert!(first.await.is_err() && rows.signing.lock().unwrap().is_empty());
    let mut ring = ring(&rows, KeyPurpose::Identity, SigningAlg::EdDsa).await;
    ring.entropy = none;
    assert!(matches!(mint_identity(&ring), Err(KeysError::Entropy(_))));
}

#[tokio::test]
async fn no_private_key_shows_in_the_store_the_set_or_debug() {
    for alg in BOTH {
        let rows = MemoryRows::default();
        let ring = ring(&rows, KeyPurpose::Agent, alg).await;
        let row = rows.signing.lock().unwrap()[0].clone();
        let (signer, _) = open_key(&row, &sealer(&rows).await, KeyPurpose::Agent).unwrap();
        let private = match &signer {
            Signer::Ed25519(pair) => {
                aws_lc_rs::encoding::AsBigEndian::as_be_bytes(&pair.seed().unwrap())
                    .map(|seed: aws_lc_rs::encoding::Curve25519SeedBin<'_>| seed.as_ref().to_vec())
                    .unwrap()
            }
            Signer::P256(pair) => {
                aws_lc_rs::encoding::AsBigEndian::as_be_bytes(&pair.private_key())
                    .map(|key: aws_lc_rs::encoding::EcPrivateKeyBin<'_>| key.as_ref().to_vec())
                    .unwrap()
            }
        };
        assert_eq!(private.len(), 32);
        let contains = |bytes: &[u8]| bytes.windows(32).any(|window| window == private);
        assert!(contains(&signer.pkcs8().unwrap()), "the search finds what is there");
        assert!(!contains(&row.sealed.0));
        let shown = format!("{ring:?} {signer:?} {row:?} {}", ring.jwks());
        for spelling in
            [base64url(&private), crate::encoding::hex(&private), format!("{private:?}")]
        {
            assert!(!shown.contains(&spelling), "{shown}");
        }
        assert!(format!("{:?}", ring.current.load()).contains("Signer("));
    }
}

#[test]
fn algorithms_are_read_by_their_names_alone() {
    for alg in BOTH {
        assert_eq!(SigningAlg::parse(alg.as_str()), Some(alg));
    }
    for other in ["none", "HS256", "eddsa", "es256", ""] {
        assert_eq!(SigningAlg::parse(other), None);
    }
}

#[tokio::test]
async fn a_key_under_the_name_of_another_is_refused() {
    let rows = MemoryRows::default();
    let sealer = sealer(&rows).await;
    let make = || new_key(&sealer, KeyPurpose::Agent, SigningAlg::EdDsa, NOW.wall, &*system());
    let (mut row, other) = (make().unwrap(), Signer::generate(SigningAlg::EdDsa, &*system()));
    let id = sealed_id(KeyPurpose::Agent, &row.kid);
    let document = other.unwrap().pkcs8().unwrap();
    row.sealed = sealer.seal(Purpose::SigningKey, &id, SEALED_VERSION, &document).unwrap();
    let fault = Snapshot::open(&[row], &sealer, KeyPurpose::Agent, 1).unwrap_err();
    assert!(fault.to_string().contains("another key than its id names"), "{fault}");
}

#[tokio::test]
async fn a_store_that_hands_out_dropped_keys_does_not_bring_them_back() {
    let rows = MemoryRows::default();
    ring(&rows, KeyPurpose::Agent, SigningAlg::EdDsa).await;
    for status in [KeyStatus::Retired, KeyStatus::Compromised] {
        let dropped = add_key(&rows, SigningAlg::EdDsa, status).await;
        let all = rows.signing.lock().unwrap().clone();
        let snapshot = Snapshot::open(&all, &sealer(&rows).await, KeyPurpose::Agent, 1).unwrap();
        assert!(!snapshot.verifying.keys.contains_key(&dropped));
        assert!(!snapshot.jwks.contains(&dropped));
    }
}

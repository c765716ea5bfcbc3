//! The keys that sign JWTs: agents' tokens by one ring, tokens for upstreams by another.
//!
//! What a ring holds at a moment is an immutable snapshot that is swapped whole: minting, verifying
//! and the JWKS never see half a change, and wait for nobody.

mod signer;
mod token;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use edgeward_core::time::WallMs;
use edgeward_core::verify::jwt::JwtKeys;
use edgeward_store::durable::{KeyPurpose, KeyRows, KeyStatus, SigningKeyRow};
use edgeward_store::{Clock, Event, EventKind};
use edgeward_wire::TraceId;
use serde_json::{Map, Value, json};

pub use self::signer::SigningAlg;
use self::signer::{PublicHalf, Signer};
use self::token::{AgentBody, IdentityBody, compact};
pub use self::token::{AgentTokenClaims, IDENTITY_TOKEN_SEC, IdentityTokenClaims};
use crate::encoding::base64url;
use crate::entropy::{Entropy, EntropyExt as _};
use crate::error::KeysError;
use crate::sealing::{Purpose, Sealer};

/// The signing keys of one purpose.
pub struct KeyRing {
    purpose: KeyPurpose,
    current: ArcSwap<Snapshot>,
    generations: AtomicU64,
    reloading: tokio::sync::Mutex<()>,
    entropy: Arc<dyn Entropy>,
}

/// What a ring holds between two changes.
#[derive(Debug)]
struct Snapshot {
    kid: String,
    signer: Signer,
    jwks: Arc<str>,
    verifying: Arc<JwtKeys>,
    /// Every key with where it stands: two snapshots are alike when these are.
    standing: Vec<(String, KeyStatus)>,
}

impl KeyRing {
    /// Loads the keys of this purpose, and makes the first if there is none: published and active
    /// at once, with both events. `alg` is for that first one; a stored key keeps its own.
    ///
    /// # Errors
    /// When a key does not open or is not what its row says, when none is active, or when the store
    /// or the randomness fails.
    pub async fn load(
        rows: &dyn KeyRows,
        sealer: &Sealer,
        purpose: KeyPurpose,
        alg: SigningAlg,
        clock: &dyn Clock,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KeysError> {
        let mut stored = rows.signing_keys(purpose).await?;
        if stored.is_empty() {
            let now = clock.now().wall;
            let row = new_key(sealer, purpose, alg, now, &*entropy)?;
            let trace = TraceId::from_random(entropy.bytes()?);
            let events = [EventKind::JwtKeyPublished, EventKind::JwtKeyActivated]
                .map(|kind| event(kind, &row, trace));
            rows.keep_first_signing_key(row, &events).await?;
            stored = rows.signing_keys(purpose).await?;
        }
        let snapshot = Snapshot::open(&stored, sealer, purpose, FIRST_GENERATION)?;
        let found = snapshot.signer.alg();
        if found != alg {
            tracing::warn!(
                purpose = name(purpose),
                active = found.as_str(),
                asked = alg.as_str(),
                "the stored key signs with another algorithm than asked for, and goes on until the \
                 keys are rolled"
            );
        }
        Ok(Self {
            purpose,
            current: ArcSwap::from_pointee(snapshot),
            generations: AtomicU64::new(FIRST_GENERATION),
            reloading: tokio::sync::Mutex::new(()),
            entropy,
        })
    }

    /// Reads the store's keys again and takes them up if anything changed; says whether it did.
    ///
    /// # Errors
    /// As [`load`](Self::load); the ring then stays as it was.
    pub async fn reload(&self, rows: &dyn KeyRows, sealer: &Sealer) -> Result<bool, KeysError> {
        // One at a time: an older reading must not replace a newer one.
        let _turn = self.reloading.lock().await;
        let stored = rows.signing_keys(self.purpose).await?;
        let generation = self.generations.load(Ordering::Relaxed).saturating_add(1);
        let snapshot = Snapshot::open(&stored, sealer, self.purpose, generation)?;
        if snapshot.standing == self.current.load().standing {
            return Ok(false);
        }
        self.generations.store(generation, Ordering::Relaxed);
        self.current.store(Arc::new(snapshot));
        Ok(true)
    }

    /// Mints an agent's token (EdDSA or ES256, `typ: JWT`, `kid`).
    ///
    /// # Errors
    /// [`KeysError::OtherPurpose`] on a ring for upstreams; when there is no randomness.
    pub fn mint_agent_token(
        &self,
        claims: &AgentTokenClaims<'_>,
        now: WallMs,
    ) -> Result<String, KeysError> {
        self.for_purpose(KeyPurpose::Agent)?;
        let current = self.current.load();
        compact(&current.signer, &current.kid, &AgentBody::new(claims, now, self.jti()?))
    }

    /// Mints a token for an upstream, good for [`IDENTITY_TOKEN_SEC`].
    ///
    /// # Errors
    /// [`KeysError::OtherPurpose`] on a ring for agents; when there is no randomness.
    pub fn mint_identity_token(
        &self,
        claims: &IdentityTokenClaims<'_>,
        now: WallMs,
    ) -> Result<String, KeysError> {
        self.for_purpose(KeyPurpose::Identity)?;
        let current = self.current.load();
        compact(&current.signer, &current.kid, &IdentityBody::new(claims, now, self.jti()?))
    }

    /// The JWK set (RFC 7517, section 5) of every key that is next, active or retiring.
    pub fn jwks(&self) -> Arc<str> {
        Arc::clone(&self.current.load().jwks)
    }

    /// The same keys, for verifying.
    pub fn verifying_keys(&self) -> Arc<JwtKeys> {
        Arc::clone(&self.current.load().verifying)
    }

    /// The `kid` of the key that signs now.
    pub fn active_kid(&self) -> String {
        self.current.load().kid.clone()
    }

    /// The algorithm of the key that signs now.
    pub fn active_alg(&self) -> SigningAlg {
        self.current.load().signer.alg()
    }

    fn for_purpose(&self, purpose: KeyPurpose) -> Result<(), KeysError> {
        if self.purpose == purpose {
            Ok(())
        } else {
            Err(KeysError::OtherPurpose(name(self.purpose)))
        }
    }

    fn jti(&self) -> Result<String, KeysError> {
        Ok(base64url(&self.entropy.bytes::<16>()?))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current.load();
        write!(f, "KeyRing({} tokens, signing by {:?})", name(self.purpose), current.kid)
    }
}

const FIRST_GENERATION: u64 = 1;
/// Private keys are never sealed anew under the same `kid`.
const SEALED_VERSION: u32 = 1;

impl Snapshot {
    fn open(
        stored: &[SigningKeyRow],
        sealer: &Sealer,
        purpose: KeyPurpose,
        generation: u64,
    ) -> Result<Self, KeysError> {
        let mut active = None;
        let (mut published, mut verifying, mut standing) = (Vec::new(), HashMap::new(), Vec::new());
        for row in stored {
            match row.status {
                KeyStatus::Next | KeyStatus::Active | KeyStatus::Retiring => {}
                KeyStatus::Retired | KeyStatus::Compromised => continue,
            }
            let (signer, public) = open_key(row, sealer, purpose)?;
            published.push(public.jwk());
            standing.push((row.kid.clone(), row.status));
            verifying.insert(row.kid.clone(), public.verifying);
            if row.status == KeyStatus::Active {
                // Oldest first: of two, the newer one signs.
                active = Some((row.kid.clone(), signer));
            }
        }
        let (kid, signer) = active.ok_or(KeysError::NoActiveKey(name(purpose)))?;
        Ok(Self {
            kid,
            signer,
            jwks: json!({ "keys": published }).to_string().into(),
            verifying: Arc::new(JwtKeys { keys: verifying, generation }),
            standing,
        })
    }
}

/// Opens a private key and derives its public half from it: a public key that somebody wrote into
/// the store, without the sealed private one, would verify tokens that we never signed.
fn open_key(
    row: &SigningKeyRow,
    sealer: &Sealer,
    purpose: KeyPurpose,
) -> Result<(Signer, PublicHalf), KeysError> {
    let fault = |fault| KeysError::SigningKey { kid: row.kid.clone(), fault };
    let alg = SigningAlg::parse(&row.alg).ok_or_else(|| fault("has an unknown algorithm"))?;
    let document = sealer.open(
        Purpose::SigningKey,
        &sealed_id(purpose, &row.kid),
        SEALED_VERSION,
        &row.sealed,
    )?;
    let signer =
        Signer::from_pkcs8(alg, &document).ok_or_else(|| fault("is no key of its algorithm"))?;
    let public = signer.public()?;
    if public.kid() != row.kid {
        return Err(fault("is another key than its id names"));
    }
    Ok((signer, public))
}

fn new_key(
    sealer: &Sealer,
    purpose: KeyPurpose,
    alg: SigningAlg,
    now: WallMs,
    entropy: &dyn Entropy,
) -> Result<SigningKeyRow, KeysError> {
    let signer = Signer::generate(alg, entropy)?;
    let public = signer.public()?;
    let kid = public.kid();
    let sealed = sealer.seal(
        Purpose::SigningKey,
        &sealed_id(purpose, &kid),
        SEALED_VERSION,
        &signer.pkcs8()?,
    )?;
    Ok(SigningKeyRow {
        purpose,
        alg: alg.as_str().to_owned(),
        status: KeyStatus::Active,
        sealed,
        public_jwk: public.jwk(),
        created_at: now,
        kid,
    })
}

/// A key sealed for one purpose does not open for the other.
fn sealed_id(purpose: KeyPurpose, kid: &str) -> Vec<u8> {
    format!("{} {kid}", name(purpose)).into_bytes()
}

fn event(kind: EventKind, row: &SigningKeyRow, trace: TraceId) -> Event {
    let mut payload = Map::new();
    payload.insert("kid".to_owned(), row.kid.clone().into());
    payload.insert("alg".to_owned(), row.alg.clone().into());
    payload.insert("purpose".to_owned(), Value::from(name(row.purpose)));
    Event { occurred_at: row.created_at, kind, agent: None, owner: None, trace, payload }
}

fn name(purpose: KeyPurpose) -> &'static str {
    match purpose {
        KeyPurpose::Agent => "agent",
        KeyPurpose::Identity => "identity",
    }
}

#[cfg(test)]
mod tests;

//! What an agent keeps: its identity, its secret, its key, and what it holds for a while.

use std::path::{Path, PathBuf};

use edgeward_wire::{AgentId, AgentSecret, OwnerId, Scope, SecretText, SessionId, SessionKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::target::EdgeUrl;
use crate::{DeviceKey, Error, Result, file};

/// An enrolled agent's credentials, kept as JSON in a file of mode 0600 that is replaced whole.
///
/// All times are this machine's clock in epoch milliseconds, so that a wrong clock does not matter
/// as long as it runs; those of the edge's clock say so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The edge, base path included.
    pub edge_url: EdgeUrl,
    /// What signatures name as their audience.
    pub audience: String,
    /// The agent.
    pub agent_id: AgentId,
    /// Its long-lived secret.
    pub agent_secret: AgentSecret,
    /// The secret's version, from 1.
    pub secret_version: u32,
    /// When the secret was received.
    pub secret_received_at_ms: u64,
    /// When the secret expires, by the edge's clock.
    pub secret_expires_at_ms: u64,
    /// Who answers for the agent.
    pub owner_user_id: OwnerId,
    /// What the agent may do, as of its enrolment.
    pub scopes: Vec<Scope>,
    /// The device key, or where it is.
    pub device_key: KeptKey,
    /// The JWT, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The session, if one is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

impl Credentials {
    /// Reads the file.
    ///
    /// # Errors
    /// When group or others may use it, or it holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let text = file::read(path)?;
        // The parser's message could quote a secret: only where it stopped is told.
        serde_json::from_str(&text).map_err(|error| {
            Error::unfit(
                path,
                format!(
                    "not an agent's credentials (line {}, column {})",
                    error.line(),
                    error.column()
                ),
            )
        })
    }

    /// Replaces the file, and returns what it holds now: a newer secret that another process has
    /// put there meanwhile is kept.
    ///
    /// # Errors
    /// When the file cannot be written, or the agent was enrolled anew meanwhile.
    pub fn save(mut self, path: &Path) -> Result<Self> {
        file::locked(path, || {
            if path.exists() {
                self.keep_newer(Self::read(path)?, path)?;
            }
            file::Pending::open(path)?.replace(&self.to_json()?)?;
            Ok(self)
        })
    }

    /// The device key, read from where it is kept; a relative path starts at `folder`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_device_key(&self, folder: &Path) -> Result<DeviceKey> {
        match &self.device_key {
            KeptKey::Pem(pem) => DeviceKey::from_pem(pem.expose()),
            KeptKey::File(path) => DeviceKey::read(&folder.join(path)),
        }
    }

    pub(crate) fn to_json(&self) -> Result<Zeroizing<String>> {
        serde_json::to_string_pretty(self)
            .map(Zeroizing::new)
            .map_err(|error| Error::Protocol(error.to_string()))
    }

    fn keep_newer(&mut self, there: Self, path: &Path) -> Result<()> {
        if there.agent_id != self.agent_id || there.device_key != self.device_key {
            return Err(Error::unfit(
                path,
                "another enrolment has taken its place; start again with that one",
            ));
        }
        if there.secret_version > self.secret_version {
            self.agent_secret = there.agent_secret;
            self.secret_version = there.secret_version;
            self.secret_received_at_ms = there.secret_received_at_ms;
            self.secret_expires_at_ms = there.secret_expires_at_ms;
        }
        Ok(())
    }
}

/// Where the device key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptKey {
    /// In a file of its own.
    File(PathBuf),
    /// Beside the other credentials.
    Pem(#[serde(with = "secret_text")] SecretText),
}

/// An agent's JWT and the time that it is good for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// The JWT.
    #[serde(with = "secret_text")]
    pub jwt: SecretText,
    /// When it was asked for.
    pub received_at_ms: u64,
    /// When it expires.
    pub expires_at_ms: u64,
}

impl Token {
    pub(crate) fn new(jwt: String, asked_at_ms: u64, expires_in_sec: u64) -> Self {
        Self {
            jwt: SecretText::new(jwt),
            received_at_ms: asked_at_ms,
            expires_at_ms: asked_at_ms.saturating_add(expires_in_sec.saturating_mul(1000)),
        }
    }

    /// When 80 % of its life is over.
    pub(crate) fn refresh_at_ms(&self) -> u64 {
        four_fifths(self.received_at_ms, self.expires_at_ms)
    }
}

/// A session: its id, the key derived at its start, and when it ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// The session's id.
    pub id: SessionId,
    /// The key that signs: of the secret that signed the start, also after a rotation.
    #[serde(with = "session_key")]
    pub key: SessionKey,
    /// When to extend it: two thirds of its time.
    pub renew_at_ms: u64,
    /// When it ends unless it is extended.
    pub ends_at_ms: u64,
    /// The same by the edge's clock.
    pub expires_at_ms: u64,
    /// Beyond this no extension goes, by the edge's clock.
    pub max_expires_at_ms: u64,
}

impl Session {
    /// Takes up new times, counted from when they were asked for: never later than the edge's.
    pub(crate) fn last(&mut self, asked_at_ms: u64, ttl_ms: u64, expires_at_ms: u64) {
        self.renew_at_ms = asked_at_ms.saturating_add(ttl_ms / 3 * 2);
        self.ends_at_ms = asked_at_ms.saturating_add(ttl_ms);
        self.expires_at_ms = expires_at_ms;
    }

    /// Whether no extension can make it last longer.
    pub(crate) fn is_at_its_maximum(&self) -> bool {
        self.expires_at_ms >= self.max_expires_at_ms
    }
}

pub(crate) fn four_fifths(from_ms: u64, to_ms: u64) -> u64 {
    from_ms.saturating_add(to_ms.saturating_sub(from_ms) / 5 * 4)
}

impl Serialize for EdgeUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EdgeUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The text itself: the credentials' file is the one place that it is written to.
mod secret_text {
    use edgeward_wire::SecretText;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        text: &SecretText,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SecretText, D::Error> {
        String::deserialize(deserializer).map(SecretText::new)
    }
}

/// The 32 bytes as base64url.
mod session_key {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use edgeward_wire::SessionKey;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(
        key: &SessionKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(URL_SAFE_NO_PAD.encode(key.expose())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SessionKey, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = URL_SAFE_NO_PAD.decode(text.as_bytes()).map(Zeroizing::new).ok();
        bytes
            .and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok())
            .map(SessionKey::from_bytes)
            .ok_or_else(|| serde::de::Error::custom("not a session key of 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Credentials {
        Credentials {
            edge_url: EdgeUrl::parse("http://127.0.0.1:1/base").unwrap(),
            audience: "edgeward".to_owned(),
            agent_id: AgentId::new_v7(1_764_000_000_000, [1; 10]),
            agent_secret: AgentSecret::from_random(&[2; 32]),
            secret_version: 1,
            secret_received_at_ms: 1,
            secret_expires_at_ms: 2,
            owner_user_id: OwnerId::parse("owner").unwrap(),
            scopes: vec![Scope::parse("llm:chat").unwrap()],
            device_key: KeptKey::Pem(DeviceKey::generate().unwrap().pem().clone().into()),
            token: Some(Token::new("a.b.c".to_owned(), 1000, 10)),
            session: Some(Session {
                id: SessionId::from_random(&[3; 32]),
                key: SessionKey::from_bytes([4; 32]),
                renew_at_ms: 1,
                ends_at_ms: 2,
                expires_at_ms: 3,
                max_expires_at_ms: 4,
            }),
        }
    }

    #[test]
    fn a_file_gives_back_what_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let saved = sample().save(&path).unwrap();
        let read = Credentials::read(&path).unwrap();
        assert_eq!(*read.to_json().unwrap(), *saved.to_json().unwrap());
        assert_eq!(read.session.unwrap().key, SessionKey::from_bytes([4; 32]));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let credentials = sample();
        let shown = format!("{credentials:?}");
        let session = credentials.session.clone().unwrap();
        for secret in [
            credentials.agent_secret.expose(),
            session.id.expose(),
            "a.b.c",
            "PRIVATE KEY",
            "4, 4, 4",
        ] {
            assert!(!shown.contains(secret), "{secret}");
        }
    }

    #[test]
    fn an_error_about_the_file_quotes_nothing_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let json = sample()
            .to_json()
            .unwrap()
            .replace("\"secret_version\": 1", "\"secret_version\": \"ewk_x\"");
        file::Pending::open(&path).unwrap().replace(&json).unwrap();
        let error = Credentials::read(&path).unwrap_err().to_string();
        assert!(error.contains("line ") && !error.contains("ewk_"), "{error}");
    }

    #[test]
    fn a_newer_secret_of_another_process_survives_a_save() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let old = sample().save(&path).unwrap();
        let mut rotated = old.clone();
        rotated.agent_secret = AgentSecret::from_random(&[9; 32]);
        rotated.secret_version = 2;
        let rotated = rotated.save(&path).unwrap();
        let mut extended = old.clone();
        extended.token = None;
        let kept = extended.save(&path).unwrap();
        assert_eq!(kept.agent_secret, rotated.agent_secret);
        let read = Credentials::read(&path).unwrap();
        assert_eq!((read.secret_version, read.token.is_none()), (2, true));
    }

    #[test]
    fn a_new_enrolment_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let old = sample();
        sample().save(&path).unwrap();
        assert!(old.save(&path).is_err(), "the device key is another one");
    }

    #[test]
    fn a_session_is_renewed_at_two_thirds_and_a_token_at_four_fifths() {
        let mut session = sample().session.unwrap();
        session.last(1000, 600_000, 3);
        assert_eq!((session.renew_at_ms, session.ends_at_ms), (401_000, 601_000));
        assert!(!session.is_at_its_maximum());
        session.last(1000, 600_000, 4);
        assert!(session.is_at_its_maximum());
        assert_eq!(Token::new(String::new(), 1000, 3600).refresh_at_ms(), 2_881_000);
    }
}

//! The demo's deployment: settings through the same loader as everybody's, an owner whose key is made
//! at random, and one folder that goes away with the demo.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use edgeward_config::{Config, Faults, Sources};
use edgeward_keys::{EntropyExt as _, SystemEntropy};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::settings::now_ms;

/// The scope that the demo's route asks for and its agents get.
pub(super) const SCOPE: &str = "demo:call";
/// Who answers for the demo's agents.
const OWNER: &str = "demo-owner";

/// The one folder of a demo, readable by this user only.
pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn make() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("edgeward-demo-").tempdir();
        folder.map(Self).context("no temporary folder could be made")
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where the first agent keeps its credentials.
    pub(super) fn credentials(&self) -> PathBuf {
        self.0.path().join("agent.json")
    }

    pub(super) fn remove(self) -> anyhow::Result<()> {
        let path = self.0.path().to_owned();
        self.0.close().with_context(|| format!("{} could not be removed", path.display()))
    }
}

/// Whoever may give out enrolment codes: the holder of the key that owners' JWTs are signed with.
pub(super) struct Owner {
    key: Zeroizing<String>,
}

impl Owner {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { key: random_hex()? })
    }

    /// An owner JWT for the next five minutes: HS256, as the settings say.
    pub(super) fn jwt(&self) -> anyhow::Result<String> {
        let now_sec = now_ms() / 1000;
        let claims = json!({"sub": OWNER, "iat": now_sec, "exp": now_sec + 300});
        let key = EncodingKey::from_secret(self.key.as_bytes());
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
    }
}

/// A secret that nobody knows: 64 hex digits.
pub(super) fn random_hex() -> anyhow::Result<Zeroizing<String>> {
    let random = Zeroizing::new(SystemEntropy.bytes::<32>()?);
    let mut text = Zeroizing::new(String::with_capacity(64));
    for byte in random.iter() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

/// What a demo's edge is set up with.
pub(super) struct Plan<'a> {
    /// The folder for what it keeps.
    pub(super) data: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) owner: &'a Owner,
    pub(super) upstream: SocketAddr,
    /// Further settings by their names.
    pub(super) more: Vec<(&'static str, String)>,
}

/// The settings of a demo's edge. The process's environment has no say: a demo shows the same
/// everywhere.
///
/// # Errors
/// When it asks for what the edge does not take, such as an address beyond loopback.
pub(super) fn settings(plan: Plan<'_>) -> Result<Config, Faults> {
    let mut env = plan.more;
    env.push(("EDGE_DATA_DIR", plan.data.display().to_string()));
    env.push(("OWNER_JWT_SECRET", plan.owner.key.to_string()));
    let flags = [("EDGE_LISTEN", plan.listen.to_string())];
    let named = |(name, value): (&str, String)| (name.to_owned(), value);
    let sources = Sources {
        env: env.into_iter().map(named).collect::<BTreeMap<_, _>>(),
        file: Some((PathBuf::from("demo.toml"), file(plan.upstream))),
        flags: flags.map(named).into_iter().collect(),
    };
    edgeward_config::load(&sources, now_ms()).map(|loaded| loaded.config)
}

/// What a settings file of this deployment says; the rest is at its default.
fn file(upstream: SocketAddr) -> String {
    format!(
        r#"
[edge]
admin_listen = "127.0.0.1:0"
log_filter = "warn"

[agent]
require_nonce = true
# Hundreds of calls are made to measure, and refusals are provoked: neither is to be slowed down.
ratelimit_per_sec = 10000
ratelimit_burst = 10000
backoff_free = 10000

[owner]
scopes = ["{SCOPE}"]

[[routes]]
match = "/v1/"
upstream = ["http://{upstream}"]
scopes = ["{SCOPE}"]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(listen: [u8; 4], owner: &Owner) -> Result<Config, Faults> {
        settings(Plan {
            data: PathBuf::from("data"),
            listen: (listen, 0).into(),
            owner,
            upstream: ([127, 0, 0, 1], 9000).into(),
            more: vec![("EDGE_NODE", "one-of-many".to_owned())],
        })
    }

    #[test]
    fn the_settings_are_sound_and_authentication_is_wholly_on() {
        let config = judged([127, 0, 0, 1], &Owner::new().unwrap()).unwrap();
        assert!(config.auth.require_hmac && config.auth.verify_jwt && config.agent.require_nonce);
        assert!(!config.auth.allow_header_secret);
        assert_eq!(config.data_dir, PathBuf::from("data"));
        assert_eq!(config.node.as_deref(), Some("one-of-many"));
        assert_eq!(config.routes.len(), 1);
    }

    #[test]
    fn an_address_beyond_loopback_is_a_fault() {
        let faults = judged([0, 0, 0, 0], &Owner::new().unwrap()).unwrap_err();
        assert!(faults.to_string().contains("EDGE_LISTEN"), "{faults}");
    }

    #[test]
    fn two_owners_have_two_keys() {
        let (one, other) = (Owner::new().unwrap(), Owner::new().unwrap());
        assert_eq!(one.key.len(), 64);
        assert_ne!(*one.key, *other.key);
    }
}

//! One connection to one server.

use edgeward_store::StoreError;
use redis::{Pipeline, Value};

/// A connection that is ready: its server's identity is known, the epochs of its buckets carry it, and
/// whatever others change there is told over it.
#[derive(Debug)]
pub(crate) struct Link {
    identity: String,
}

/// A script, and its SHA-1 as the server names it.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    sha: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, sha: sha1(text) }
    }
}

impl Link {
    /// `<run_id>/<master_replid>` of the server, read over this very connection.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Sends commands in one write; an answer each, in order.
    ///
    /// One answer may be an error: [`Value::ServerError`] of kind `NoScript`, to be answered with `EVAL`. Any
    /// other makes the whole call fail.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server did not answer within the one timeout, which ends this link
    /// for all, or refused one of the commands. Others of the pipeline may have been executed.
    pub(crate) async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let _ = pipeline;
        Err(StoreError::Unavailable("not yet".to_owned()))
    }

    /// Runs a script by its SHA-1, with its text where the server does not know it. In strict mode what it
    /// has written is on a replica once this has answered.
    ///
    /// # Errors
    /// As [`Self::send`]; in strict mode also when no replica has confirmed in time: the writes stand.
    pub(crate) async fn script(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let _ = (&script.sha, &script.text, keys, args);
        Err(StoreError::Unavailable("not yet".to_owned()))
    }
}

fn sha1(text: &str) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

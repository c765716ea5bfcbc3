//! One connection to one server that is ready.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use edgeward_store::StoreError;
use redis::{Arg, Cmd, Pipeline, ServerError, ServerErrorKind, Value};
use tokio::sync::Notify;

use crate::line::Line;
use crate::options::HostPort;
use crate::start::StartError;

/// A connection that is ready: its server's identity is known, the epochs of its buckets carry it, and
/// whatever others change there is told over it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) line: Line,
    pub(crate) address: HostPort,
    /// Which of this process's links it is.
    pub(crate) serial: u64,
    pub(crate) identity: String,
    pub(crate) timeout: Duration,
    pub(crate) strict: bool,
    /// Told when the server says that it is not, or no longer, the one to ask.
    pub(crate) rediscover: Arc<Notify>,
}

/// A script, and its SHA-1 as the server names it.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    sha: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self { text, sha: hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    /// `EVALSHA`, which answers `NOSCRIPT` on a server that has not seen the text.
    pub(crate) fn by_sha<K: AsRef<[u8]>, A: AsRef<[u8]>>(&self, keys: &[K], args: &[A]) -> Cmd {
        call("EVALSHA", &self.sha, keys, args)
    }

    /// `EVAL`: afterwards the server knows it.
    pub(crate) fn by_text<K: AsRef<[u8]>, A: AsRef<[u8]>>(&self, keys: &[K], args: &[A]) -> Cmd {
        call("EVAL", self.text, keys, args)
    }
}

impl Link {
    /// `<run_id>/<master_replid>` of the server, read over this very connection.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Sends commands in one write; an answer each, in order.
    ///
    /// One kind of answer may be an error: [`Value::ServerError`] of [`ServerErrorKind::NoScript`], to be
    /// answered with [`Script::by_text`]. Any other makes the whole call fail.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server did not answer within the one timeout, which ends this link
    /// for all, or refused one of the commands. Others of the pipeline may have been executed.
    pub(crate) async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        Ok(self.call(pipeline, self.timeout).await?)
    }

    /// [`Self::send`] with a budget of its own.
    async fn call(&self, pipeline: &Pipeline, budget: Duration) -> Result<Vec<Value>, CallError> {
        self.call_each(pipeline, budget).await?.into_iter().collect()
    }

    /// The same, where one refusal says nothing of the other commands.
    pub(crate) async fn call_each(
        &self,
        pipeline: &Pipeline,
        budget: Duration,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let values = self.line.send(pipeline, budget).await.map_err(|reason| {
            self.rediscover.notify_one();
            CallError::Broken { address: self.address.clone(), reason }
        })?;
        let answer = |(value, command): (Value, &Cmd)| {
            if let Value::ServerError(error) = &value
                && error.kind() != Some(ServerErrorKind::NoScript)
            {
                return Err(self.refused(error, command));
            }
            Ok(value)
        };
        Ok(values.into_iter().zip(pipeline.cmd_iter()).map(answer).collect())
    }

    /// Runs a script by its SHA-1, with its text where the server does not know it. In strict mode what it
    /// has written is on a replica once this has answered.
    ///
    /// # Errors
    /// As [`Self::send`]; in strict mode also when no replica has confirmed in time: the writes stand.
    pub(crate) async fn script<K: AsRef<[u8]>, A: AsRef<[u8]>>(
        &self,
        script: &Script,
        keys: &[K],
        args: &[A],
    ) -> Result<Value, StoreError> {
        let answer = self.confirmed(script.by_sha(keys, args)).await?;
        if matches!(answer, Value::ServerError(_)) {
            return self.confirmed(script.by_text(keys, args)).await;
        }
        Ok(answer)
    }

    /// Sends one command, in strict mode with a wait for a replica behind it.
    async fn confirmed(&self, command: Cmd) -> Result<Value, StoreError> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(command);
        if self.strict {
            // as long as there is to wait, less what the way takes; 0 would be for ever
            let wait = (self.timeout.as_millis() * 3 / 5).max(1);
            pipeline.cmd("WAIT").arg(1).arg(wait.to_string());
        }
        let mut values = self.send(&pipeline).await?.into_iter();
        let answer = values.next().unwrap_or_default();
        if self.strict && !matches!(answer, Value::ServerError(_)) {
            let confirmed = matches!(values.next(), Some(Value::Int(replicas)) if replicas >= 1);
            if !confirmed {
                let what = "no replica has confirmed the write in time";
                return Err(StoreError::Unavailable(format!("Redis at {}: {what}", self.address)));
            }
        }
        Ok(answer)
    }

    /// What an error of the server means for this link, and for the caller.
    fn refused(&self, error: &ServerError, command: &Cmd) -> CallError {
        let demoted = matches!(
            error.kind(),
            Some(
                ServerErrorKind::ReadOnly
                    | ServerErrorKind::BusyLoading
                    | ServerErrorKind::MasterDown
            )
        );
        let refusal = CallError::refused(&self.address, error, command);
        if demoted {
            self.line.end(&refusal.to_string());
        }
        if demoted || refusal.is_elsewhere() {
            self.rediscover.notify_one();
        }
        refusal
    }
}

/// Why a call was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The line is dead.
    #[error("Redis at {address}: {reason}")]
    Broken { address: HostPort, reason: String },
    /// The server refuses.
    #[error("Redis at {address} refuses {command}: {said}")]
    Refused { address: HostPort, command: String, said: String, why: Refusal },
    /// The server answers something else.
    #[error("Redis at {address} answers {command} otherwise than Redis does")]
    Odd { address: HostPort, command: &'static str },
}

/// What a refusal has to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The user may not do it.
    NotPermitted,
    /// The slot is served by another node of the cluster, or just now by none.
    Elsewhere,
    /// Anything else.
    Other,
}

impl CallError {
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Refused { why: Refusal::Elsewhere, .. })
    }

    pub(crate) fn refused(address: &HostPort, error: &ServerError, command: &Cmd) -> Self {
        let said = format!("{} {}", error.code(), error.details().unwrap_or_default());
        let elsewhere = matches!(
            error.kind(),
            Some(
                ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
            )
        );
        let why = if elsewhere {
            Refusal::Elsewhere
        } else if error.kind() == Some(ServerErrorKind::NoPerm)
            // as it is put within a script
            || said.contains("The user executing the script can't")
        {
            Refusal::NotPermitted
        } else {
            Refusal::Other
        };
        let command = name_of(command);
        Self::Refused { address: address.clone(), command, said, why }
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<CallError> for StartError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Broken { address, reason } => {
                Self::Unreachable { address: address.to_string(), detail: reason }
            }
            CallError::Refused { address, command, said, why: Refusal::NotPermitted } => {
                Self::NotPermitted { address: address.to_string(), command, detail: said }
            }
            CallError::Refused {
                address,
                command,
                said,
                why: Refusal::Elsewhere | Refusal::Other,
            } => Self::Odd { address: address.to_string(), detail: format!("{command}: {said}") },
            CallError::Odd { address, command } => Self::Odd {
                address: address.to_string(),
                detail: format!("{command} is answered otherwise than Redis does"),
            },
        }
    }
}

/// The command's name, with the word after it where that is part of the name.
pub(crate) fn name_of(command: &Cmd) -> String {
    let mut words = command.args_iter().filter_map(|arg| {
        let Arg::Simple(bytes) = arg else { return None };
        Some(String::from_utf8_lossy(bytes).into_owned())
    });
    let first = words.next().unwrap_or_default();
    if ["CLIENT", "CLUSTER", "SENTINEL"].contains(&first.as_str()) {
        return format!("{first} {}", words.next().unwrap_or_default());
    }
    first
}

fn call<K: AsRef<[u8]>, A: AsRef<[u8]>>(name: &str, what: &str, keys: &[K], args: &[A]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(what).arg(keys.len());
    for key in keys {
        command.arg(key.as_ref());
    }
    for arg in args {
        command.arg(arg.as_ref());
    }
    command
}

#[cfg(test)]
mod tests {
    use super::{Script, name_of};

    #[test]
    fn a_script_is_named_by_the_sha1_of_its_text() {
        // as SCRIPT LOAD "return 1" answers
        assert_eq!(Script::new("return 1").sha, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn commands_are_named_as_an_operator_knows_them() {
        assert_eq!(name_of(redis::cmd("CLIENT").arg("TRACKING").arg("ON")), "CLIENT TRACKING");
        assert_eq!(name_of(&Script::new("return 1").by_sha::<&str, &str>(&[], &[])), "EVALSHA");
    }
}

//! Session, token and secret: opened, kept alive, replaced.

use std::sync::PoisonError;
use std::time::Duration;

use edgeward_wire::api::{
    SecretChange, SecretChanged, SessionExtended, SessionStart, SessionStarted, TokenRefresh,
    TokenRefreshed,
};
use edgeward_wire::{Advice, AgentSecret, Code, SessionId, SessionKey};
use http::Method;
use serde::de::DeserializeOwned;

use super::Agent;
use super::exchange::{Content, Exchange, Renewing, Signer, json_headers};
use crate::SecretText;
use crate::credentials::{Session, Token, four_fifths};
use crate::response::own_json;
use crate::target::Target;
use crate::{Error, Result};

/// After a renewal ahead of time has failed: how long the next calls do not try again.
const QUIET_MS: u64 = 5_000;
/// The same for a secret, whose rotation is days ahead of its end.
const QUIET_SECRET_MS: u64 = 3_600_000;

/// Until when renewals ahead of time are left alone, by this machine's clock.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    session_until_ms: u64,
    token_until_ms: u64,
    secret_until_ms: u64,
}

/// What asking for a new secret came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rotation {
    /// A new secret is held and kept; the old one stays good for its grace.
    Rotated {
        /// The new version.
        secret_version: u32,
    },
    /// This edge has no such call.
    NotAvailable,
}

/// What is due at some moment.
#[derive(Debug, Clone, Copy)]
struct Due {
    token_at_ms: Option<u64>,
    session_at_ms: Option<u64>,
    secret_at_ms: u64,
}

impl Agent {
    /// Opens a session, or a new one in place of the one that is held. Later calls use it.
    ///
    /// # Errors
    /// When the edge refuses or cannot be reached, or the credentials cannot be kept.
    pub async fn open_session(&self) -> Result<Session> {
        let _turn = self.inner.turn.lock().await;
        self.start_in_turn().await
    }

    /// Extends the session that is held.
    ///
    /// # Errors
    /// When none is held, the edge refuses or cannot be reached.
    pub async fn extend(&self) -> Result<Session> {
        let _turn = self.inner.turn.lock().await;
        self.extend_in_turn().await
    }

    /// Ends the session that is held; its streams end with it. False if none was.
    ///
    /// # Errors
    /// When the edge cannot be reached or refuses for another reason than that the session is gone.
    pub async fn end_session(&self) -> Result<bool> {
        let _turn = self.inner.turn.lock().await;
        if self.session().is_none() {
            return Ok(false);
        }
        let headers = json_headers();
        let exchange = Exchange {
            method: &Method::POST,
            target: &Target::parse("/agent/session/end")?,
            headers: &headers,
            content: Content::Given("{}".into()),
            signer: Signer::SessionIfHeld,
            // Not asked for here, and one that has expired would be in the way.
            token: false,
            renewing: Renewing::Nothing,
        };
        let ended = match self.exchange(&exchange).await {
            Ok(answer) if answer.status().is_success() => true,
            Ok(answer) => {
                let status = answer.status();
                return Err(Error::Protocol(format!("status {status} without an edge's code")));
            }
            Err(error) if is_session_gone(&error) => false,
            Err(error) => return Err(error),
        };
        self.keep(|held| held.session = None).await?;
        Ok(ended)
    }

    /// Gets a new JWT.
    ///
    /// # Errors
    /// When the edge refuses or cannot be reached, or the credentials cannot be kept.
    pub async fn refresh_token(&self) -> Result<()> {
        let _turn = self.inner.turn.lock().await;
        self.refresh_in_turn().await
    }

    /// Gets a new secret. It is kept before it is used; the edge activates it with its first use.
    ///
    /// # Errors
    /// When the edge refuses or cannot be reached, or the credentials cannot be kept.
    pub async fn rotate_secret(&self) -> Result<Rotation> {
        let _turn = self.inner.turn.lock().await;
        self.rotate_in_turn().await
    }

    /// Renews what is due. Fails only if something is gone that the caller has asked for, or the
    /// credentials cannot be kept: a renewal ahead of time is tried again later.
    pub(crate) async fn freshen(&self) -> Result<()> {
        if self.due_in() > Duration::ZERO {
            return Ok(());
        }
        let _turn = self.inner.turn.lock().await;
        // Another task may have done it all while this one waited.
        let (now, due) = (self.now_ms(), self.due());
        if due.token_at_ms.is_some_and(|at| at <= now) {
            let refreshed = self.refresh_in_turn().await;
            self.ahead_of_time(refreshed, QUIET_MS, |quiet| &mut quiet.token_until_ms)?;
        }
        if due.session_at_ms.is_some_and(|at| at <= now) {
            self.renew_session_in_turn().await?;
        }
        if due.secret_at_ms <= now {
            let rotated = self.rotate_in_turn().await.map(drop);
            self.ahead_of_time(rotated, QUIET_SECRET_MS, |quiet| &mut quiet.secret_until_ms)?;
        }
        Ok(())
    }

    /// How long until something is due.
    pub(crate) fn due_in(&self) -> Duration {
        let due = self.due();
        let next = [due.token_at_ms, due.session_at_ms, Some(due.secret_at_ms)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX);
        Duration::from_millis(next.saturating_sub(self.now_ms()))
    }

    fn due(&self) -> Due {
        let quiet = self.inner.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held();
        let secret = four_fifths(held.secret_received_at_ms, held.secret_expires_at_ms);
        Due {
            token_at_ms: held
                .token
                .as_ref()
                .map(|token| token.refresh_at_ms().max(quiet.token_until_ms)),
            session_at_ms: held.session.as_ref().map(|session| {
                // Waiting longer than the session lasts would not be quiet but late.
                session.renew_at_ms.max(quiet.session_until_ms).min(session.ends_at_ms)
            }),
            secret_at_ms: secret.max(quiet.secret_until_ms),
        }
    }

    /// Passes on what the caller must know, and leaves the rest for later.
    fn ahead_of_time(
        &self,
        result: Result<()>,
        quiet_ms: u64,
        until: impl FnOnce(&mut Quiet) -> &mut u64,
    ) -> Result<()> {
        match result {
            Err(error @ (Error::Local { .. } | Error::ClockSkew { .. })) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "a renewal ahead of time failed; it is tried again later");
                self.be_quiet(quiet_ms, until);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn be_quiet(&self, for_ms: u64, until: impl FnOnce(&mut Quiet) -> &mut u64) {
        let mut quiet = self.inner.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        *until(&mut quiet) = self.now_ms().saturating_add(for_ms);
    }

    async fn renew_session_in_turn(&self) -> Result<()> {
        match self.session() {
            Some(session) if !session.is_at_its_maximum() => match self.extend_in_turn().await {
                Err(error) if is_session_gone(&error) => self.start_in_turn().await.map(drop),
                other => self.ahead_of_time(other.map(drop), QUIET_MS, session_until),
            },
            // No extension helps; the old one lives on for the streams that it holds.
            Some(_) => {
                let started = self.start_in_turn().await.map(drop);
                self.ahead_of_time(started, QUIET_MS, session_until)
            }
            None => self.start_in_turn().await.map(drop),
        }
    }

    /// A session in place of the one that was refused, unless another task has replaced it already.
    pub(super) async fn replace_session(&self, refused: Option<SessionId>) -> Result<()> {
        let _turn = self.inner.turn.lock().await;
        if self.session().is_some_and(|held| Some(held.id) != refused) {
            return Ok(());
        }
        self.held().session = None;
        self.start_in_turn().await.map(drop)
    }

    /// A token in place of the one that was refused, unless another task has replaced it already.
    pub(super) async fn replace_token(&self, refused: Option<SecretText>) -> Result<()> {
        let _turn = self.inner.turn.lock().await;
        let now = self.now_ms();
        let live = self.held().token.clone().filter(|token| token.expires_at_ms > now);
        if live.is_some_and(|held| Some(held.jwt) != refused) {
            return Ok(());
        }
        self.refresh_in_turn().await
    }

    async fn start_in_turn(&self) -> Result<Session> {
        let asked_at_ms = self.now_ms();
        let secret = self.held().agent_secret.clone();
        let proof = Content::Proof(|proof| {
            serde_json::to_vec(&SessionStart { agent_id: None, device_proof: Some(proof) })
        });
        let started: SessionStarted = self
            .handshake("/agent/session/start", proof, Signer::Secret, Renewing::TokenInTurn)
            .await?;
        let session = session_of(started, &secret, asked_at_ms);
        self.keep(|held| held.session = Some(session.clone())).await?;
        Ok(session)
    }

    async fn extend_in_turn(&self) -> Result<Session> {
        let asked_at_ms = self.now_ms();
        let Some(mut session) = self.session() else {
            return Err(Error::Invalid("no session is open".to_owned()));
        };
        let body = Content::Given("{}".into());
        let extended: SessionExtended = self
            .handshake("/agent/session/extend", body, Signer::SessionIfHeld, Renewing::TokenInTurn)
            .await?;
        session.last(asked_at_ms, extended.ttl_ms, extended.expires_at_ms);
        self.keep(|held| held.session = Some(session.clone())).await?;
        Ok(session)
    }

    pub(super) async fn refresh_in_turn(&self) -> Result<()> {
        let asked_at_ms = self.now_ms();
        const TARGET: &str = "/agent/token/refresh";
        let by_session = match self.session() {
            Some(_) => {
                let body = Content::Given("{}".into());
                self.handshake(TARGET, body, Signer::SessionIfHeld, Renewing::Nothing).await
            }
            None => self.refresh_by_secret(TARGET).await,
        };
        let refreshed: TokenRefreshed = match by_session {
            Err(error) if is_session_gone(&error) => {
                self.held().session = None;
                self.refresh_by_secret(TARGET).await?
            }
            other => other?,
        };
        let token = Token::new(refreshed.agent_jwt, asked_at_ms, refreshed.jwt_expires_in_sec);
        self.keep(|held| held.token = Some(token)).await
    }

    async fn refresh_by_secret(&self, target: &str) -> Result<TokenRefreshed> {
        let proof =
            Content::Proof(|proof| serde_json::to_vec(&TokenRefresh { device_proof: Some(proof) }));
        self.handshake(target, proof, Signer::Secret, Renewing::Nothing).await
    }

    async fn rotate_in_turn(&self) -> Result<Rotation> {
        let asked_at_ms = self.now_ms();
        let proof =
            Content::Proof(|proof| serde_json::to_vec(&SecretChange { device_proof: proof }));
        let changed: Result<SecretChanged> =
            self.handshake("/agent/secret/rotate", proof, Signer::Secret, Renewing::Nothing).await;
        let changed = match changed {
            Err(error) if error.code() == Some(Code::RouteUnknown) => {
                self.be_quiet(24 * QUIET_SECRET_MS, |quiet| &mut quiet.secret_until_ms);
                return Ok(Rotation::NotAvailable);
            }
            other => other?,
        };
        let secret_version = changed.secret_version;
        self.keep(|held| {
            held.agent_secret = changed.agent_secret;
            held.secret_version = secret_version;
            held.secret_received_at_ms = asked_at_ms;
            held.secret_expires_at_ms = changed.secret_expires_at_ms;
        })
        .await?;
        Ok(Rotation::Rotated { secret_version })
    }

    async fn handshake<T: DeserializeOwned>(
        &self,
        target: &str,
        content: Content,
        signer: Signer,
        renewing: Renewing,
    ) -> Result<T> {
        let headers = json_headers();
        let exchange = Exchange {
            method: &Method::POST,
            target: &Target::parse(target)?,
            headers: &headers,
            content,
            signer,
            // Where nothing but the signature is asked for, a JWT could only be in the way.
            token: renewing == Renewing::TokenInTurn,
            renewing,
        };
        own_json(self.exchange(&exchange).await?).await
    }
}

fn session_of(started: SessionStarted, secret: &AgentSecret, asked_at_ms: u64) -> Session {
    let mut session = Session {
        key: SessionKey::derive(secret, &started.session_id, &started.session_salt),
        id: started.session_id,
        renew_at_ms: 0,
        ends_at_ms: 0,
        expires_at_ms: 0,
        max_expires_at_ms: started.max_expires_at_ms,
    };
    session.last(asked_at_ms, started.ttl_ms, started.expires_at_ms);
    session
}

fn session_until(quiet: &mut Quiet) -> &mut u64 {
    &mut quiet.session_until_ms
}

fn is_session_gone(error: &Error) -> bool {
    error.refusal().is_some_and(|refusal| refusal.advice() == Advice::StartSession)
}

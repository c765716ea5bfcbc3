//! What stores know of agents and sessions, as the decisions read it.

use std::sync::Arc;

use edgeward_wire::{AgentId, DevicePublicKey, MacKey, OwnerId, Scope, SessionIdHash};

use crate::address::AddressList;
use crate::limit::gcra::Rate;
use crate::time::{MonoMs, WallMs};

/// Whether an agent may act at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It may.
    Active,
    /// An operator has blocked it.
    Blocked,
    /// It is gone for good.
    Retired,
}

/// An agent, as far as decisions need it.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its owner.
    pub owner: OwnerId,
    /// Whether it may act.
    pub standing: Standing,
    /// Raised when all that was given to it so far is void.
    pub epoch: u64,
    /// Where it may call from.
    pub allowed: AddressList,
    /// What it may do.
    pub scopes: Arc<[Scope]>,
    /// A rate of its own, instead of the deployment's.
    pub rate: Option<Rate>,
    /// Signs the body alone, as agents of the older design do, and nothing else.
    pub legacy: bool,
    /// Its device key; an imported agent may have none yet.
    pub device_key: Option<DevicePublicKey>,
    /// The newest version of its secret that is taken, whether the secrets are at hand or not.
    pub newest_version: Option<u32>,
    /// Its secrets that a signature may be checked against, at most three. Not at hand where a
    /// session's key is what checks.
    pub secrets: Arc<[Secret]>,
}

/// One version of an agent's secret.
#[derive(Debug, Clone)]
pub struct Secret {
    /// From 1.
    pub version: u32,
    /// The key that checks its signatures.
    pub key: MacKey,
    /// The end of grace, or of its life, whichever comes first.
    pub valid_until: WallMs,
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// The hash of its id.
    pub id: SessionIdHash,
    /// The agent that started it.
    pub agent: AgentId,
    /// The agent's epoch at the start.
    pub epoch: u64,
    /// The version of the secret that signed the start.
    pub secret_version: u32,
    /// The key that checks its signatures.
    pub key: MacKey,
    /// When it ends unextended.
    pub expires_at: MonoMs,
    /// Beyond this no extension goes.
    pub max_expires_at: MonoMs,
}

/// What a store answered to a question. An outage is a fact, and never reads as yes or as no.
#[derive(Debug, Clone)]
pub enum Fact<T> {
    /// It looked: there is one, or there is none.
    Answered(Option<T>),
    /// It could not look.
    Unavailable,
}

impl<T> Fact<T> {
    /// The question was not asked, since nothing depends on it.
    pub const NONE: Self = Self::Answered(None);
}

//! Who calls, as the gate found out and the audit writes down.

use std::fmt;

/// What an operator may do. Each may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Runs the runbooks: blocks, rotates, opens incidents.
    Operator,
    /// Rolls keys, changes policy, makes operators.
    Admin,
}

/// How a caller proved who they are. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// The system vouched for the peer of the Unix socket.
    Peer {
        /// The peer's user.
        uid: u32,
    },
    /// An operator's token.
    Token {
        /// The first 8 hex digits of the token's SHA-256.
        fingerprint: String,
    },
}

/// An authenticated caller of the admin listener; the gate makes it, handlers find it in the
/// request's extensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    /// How they proved who they are.
    pub kind: ActorKind,
    /// What they may do.
    pub role: Role,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ActorKind::Peer { uid } => write!(f, "uid:{uid}"),
            ActorKind::Token { fingerprint } => write!(f, "token:{fingerprint}"),
        }
    }
}

//! Why the admin listener did not start, each with the way out.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::token::TokenError;

/// Why the admin listener did not start. No message shows a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody accepts on the socket.
    #[error(
        "another process serves the admin socket {path}: stop it, or give this edge a data folder of its own"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Another start holds the lock beside the socket.
    #[error("another start is binding the admin socket {path} at this moment: try again")]
    Starting {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has the socket's name; it is left alone.
    #[error(
        "{path} is there and is no socket: move it away, or give the admin socket another place"
    )]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// Others than the owner reach into the socket's folder.
    #[error(
        "the admin socket's folder {folder} must be for its owner only (mode {mode:04o}, user {uid}): chmod 700 it as the user who runs the edge, or give the socket a folder of its own"
    )]
    FolderExposed {
        /// The folder.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// The socket could not be bound, or its folder not be made.
    #[error("the admin socket {path} cannot be used: {fault}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        fault: String,
    },
    /// A token in the clear would leave the machine.
    #[error("the admin listener takes a loopback address without TLS, and {address} is none")]
    BeyondLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The port could not be bound.
    #[error("the admin address {address} cannot be bound: {fault}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        fault: String,
    },
    /// The token could not be read or made.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl BindError {
    pub(crate) fn socket(path: &Path, fault: &io::Error) -> Self {
        Self::Socket { path: path.to_owned(), fault: fault.to_string() }
    }
}

//! Where requests go: an edge of this process, or one that runs by itself.

use std::net::SocketAddr;
use std::sync::Arc;

use edgeward_store::Clock;

use crate::owner;
use crate::raw::{self, Answer, Conn};

/// An edge's public side, as its callers know it.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    /// `EDGE_BASE_PATH`.
    pub base_path: String,
    /// The clock of those who call.
    pub clock: Arc<dyn Clock>,
}

/// Whoever has one.
pub trait AsDoor {
    /// It.
    fn door(&self) -> Door;
}

impl AsDoor for Door {
    fn door(&self) -> Door {
        self.clone()
    }
}

impl Door {
    /// `EDGE_BASE_PATH` before a path.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base_path)
    }

    /// A connection to it.
    pub async fn connect(&self) -> Conn {
        Conn::connect(self.address).await
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, bytes: &[u8]) -> Answer {
        raw::exchange(self.address, bytes).await
    }

    /// A plain GET.
    pub async fn get(&self, target: &str) -> Answer {
        self.send(&raw::request("GET", target, &[], b"")).await
    }

    /// POST of JSON without credentials, or with these headers.
    pub async fn post(
        &self,
        target: &str,
        headers: &[(&str, &str)],
        body: &serde_json::Value,
    ) -> Answer {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        self.send(&raw::request("POST", target, &all, body.to_string().as_bytes())).await
    }

    /// `enroll/start` with this owner's token, or none.
    pub async fn enroll_start(&self, jwt: Option<&str>, body: serde_json::Value) -> Answer {
        let bearer = jwt.map(|jwt| format!("Bearer {jwt}"));
        let headers: Vec<_> =
            bearer.iter().map(|value| ("Authorization", value.as_str())).collect();
        self.post(&self.path("/agent/enroll/start"), &headers, &body).await
    }

    /// An owner's token that holds now.
    pub fn owner_jwt(&self, sub: &str, scopes: &[&str]) -> String {
        owner::jwt(sub, scopes, self.clock.now().wall.0)
    }
}

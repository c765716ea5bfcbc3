//! The edge's own endpoints, and the way to upstreams. Each takes an admission, or belongs to an
//! owner or the holder of a code.

mod agent;
mod enroll;
mod routed;

pub(crate) use agent::object;

use edgeward_wire::api::Health;
use http::StatusCode;

use crate::answer::{self, Answer};
use crate::edge::{Edge, Journey};

impl Edge {
    /// `GET /agent/healthz`.
    pub(crate) fn health(&self, journey: &Journey) -> Answer {
        let status = if self.is_draining() {
            "draining"
        } else if self.waits().is_some() {
            "starting"
        } else {
            "ok"
        };
        let mut answer = answer::json(&Health {
            status: status.to_owned(),
            version: crate::VERSION.to_owned(),
            time_ms: journey.began.wall.0,
        });
        if status != "ok" {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        answer
    }
}

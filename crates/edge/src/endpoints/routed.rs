//! From an admission to its endpoint; for a route, to its upstream and back as a relayed answer.

use std::sync::Arc;

use edgeward_core::Rejection;
use edgeward_core::flow::Caller;
use edgeward_core::policy::Endpoint;
use edgeward_core::record::Fact;
use edgeward_core::rejection::UpstreamFault;
use edgeward_wire::{AgentId, SessionIdHash, header};
use http::Response;

use crate::answer::Answer;
use crate::body::AnswerBody;
use crate::call::Admitted;
use crate::edge::{Edge, Failure, Journey, Refused};
use crate::forward::{Answered, Hop, RelayPlan};
use crate::streams::StreamLease;
use crate::value::value;
use crate::violations::Concerned;

impl Edge {
    pub(crate) async fn dispatch(
        self: &Arc<Self>,
        admitted: Admitted,
        journey: &Journey,
        concerned: Concerned,
    ) -> Result<Answer, Failure> {
        let refused = |rejection: Rejection| {
            Failure::Refused(Box::new(Refused { rejection, concerned: Some(concerned) }))
        };
        let endpoint = admitted.admission.endpoint.clone();
        match endpoint {
            Endpoint::SessionStart => {
                self.session_start(admitted.admission, journey).await.map_err(refused)
            }
            Endpoint::SessionExtend => {
                self.session_extend(admitted.admission, journey).await.map_err(refused)
            }
            Endpoint::SessionEnd => {
                self.session_end(admitted.admission, journey).await.map_err(refused)
            }
            Endpoint::TokenRefresh => {
                self.token_refresh(admitted.admission, journey).await.map_err(refused)
            }
            Endpoint::Echo => Ok(self.echo(&admitted.admission, journey)),
            Endpoint::Route(route) => self.forward(admitted, route.index, journey, refused).await,
            Endpoint::Unknown => Err(refused(Rejection::RouteUnknown)),
        }
    }

    async fn forward(
        &self,
        admitted: Admitted,
        index: u32,
        journey: &Journey,
        refused: impl Fn(Rejection) -> Failure,
    ) -> Result<Answer, Failure> {
        let Admitted { admission, lease, needs } = admitted;
        let safe = admission.parts.method.is_safe();
        let hop = Hop { secure: self.is_secure(&admission.parts.headers, &journey.origin) };
        let traceparent = self.traces.traceparent(journey.trace);
        let now = self.clock.now();
        let (answered, caller) = self
            .forwarder
            .forward(admission, index, &hop, traceparent, now)
            .await
            .map_err(Failure::Upstream)?;
        if answered.is_short() {
            return Ok(relayed(answered, None, None));
        }
        // What an unsafe request did stands. A refusal would have its sender sign it again.
        let refused = |rejection: Rejection| {
            if safe { refused(rejection) } else { Failure::Upstream(UpstreamFault::Withheld) }
        };
        // It turned out to be a stream: it takes its place, and then what was proven is looked at
        // once more, so that a revocation that came between finds it or is found.
        let lease = match lease {
            Some(lease) => lease,
            None => self.late_lease(&caller, needs, journey).await.map_err(&refused)?,
        };
        if self.is_draining() {
            return Err(refused(Rejection::Draining));
        }
        let now = self.clock.now();
        let facts = self.facts(needs, now).await;
        caller.holds(&facts, now).map_err(&refused)?;
        // An extension between the look at the session and the registration has missed the stream.
        if let Fact::Answered(Some(session)) = &facts.session {
            self.streams.extend(&session.id, session.expires_at);
        }
        let ends = now.wall_at(lease.ends_at()).0;
        Ok(relayed(answered, Some(lease), Some(ends)))
    }

    /// A place for a stream that was not asked for as one, up to the end of its session as it is now.
    async fn late_lease(
        &self,
        caller: &Caller,
        needs: (Option<SessionIdHash>, AgentId),
        journey: &Journey,
    ) -> Result<StreamLease, Rejection> {
        let now = self.clock.now();
        let facts = self.facts(needs, now).await;
        caller.holds(&facts, now)?;
        let ends_at = match &facts.session {
            Fact::Answered(Some(session)) => session.expires_at,
            Fact::Answered(None) | Fact::Unavailable => {
                now.mono.plus(journey.policy.session_ttl_ms)
            }
        };
        self.register_stream(caller, ends_at, journey).map_err(|_| Rejection::TooManyStreams)
    }
}

fn relayed(answered: Answered, lease: Option<StreamLease>, ends: Option<u64>) -> Answer {
    let ends_cleanly = answered.is_events;
    let (mut parts, relay) = answered.into_relay(RelayPlan { lease, ends_cleanly });
    if ends_cleanly {
        // It may be cut before the length that its upstream announced.
        parts.headers.remove(http::header::CONTENT_LENGTH);
    }
    if let Some(ends) = ends {
        parts.headers.insert(header::X_SESSION_EXPIRES_MS, value(ends.to_string()));
    }
    let mut answer = Response::new(AnswerBody::relay(relay));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    answer
}

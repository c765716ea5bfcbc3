//! A stream of events, held open until it is cut.

use std::time::Duration;

use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::caller::{Caller, Holder, PATIENCE};
use super::upstream::STREAM;

/// So long a change may take until it is in force. A second is promised; a demo on a busy machine is not
/// the place to measure that, so the time itself is shown.
pub(super) const IN_FORCE_WITHIN: Duration = Duration::from_secs(5);

/// A stream that is known to be flowing.
pub(super) struct Flowing(Response<Incoming>);

impl Flowing {
    /// Opens one.
    pub(super) async fn open(caller: &Caller, holder: &Holder) -> anyhow::Result<Self> {
        let stream = caller.send(&holder.sign((Method::GET, STREAM, ""))?).await?;
        anyhow::ensure!(stream.status() == StatusCode::OK, "the stream: {}", stream.status());
        let mut stream = Self(stream);
        // Two events: the first could come with the head.
        for _ in 0..2 {
            stream.event().await?;
        }
        Ok(stream)
    }

    /// Waits for the next event.
    pub(super) async fn event(&mut self) -> anyhow::Result<()> {
        let event = tokio::time::timeout(PATIENCE, self.0.body_mut().frame()).await?;
        anyhow::ensure!(matches!(event, Some(Ok(_))), "the stream ended too early");
        Ok(())
    }

    /// Whether it comes to its end in time.
    pub(super) async fn ends_in_time(mut self) -> bool {
        let over = async { while let Some(Ok(_)) = self.0.body_mut().frame().await {} };
        tokio::time::timeout(IN_FORCE_WITHIN, over).await.is_ok()
    }
}

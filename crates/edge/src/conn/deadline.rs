//! A timer that is cheap to set for every request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer whose end is told at every poll.
///
/// A later end than before does not touch the runtime's timer: it fires early and is set again
/// then. So a connection that is in use does so once in a deadline, not once in a request.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready once `due` has passed; until then the task is woken at `due`, or earlier.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        loop {
            match sleep.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if sleep.deadline() >= due => return Poll::Ready(()),
                Poll::Ready(()) => sleep.as_mut().reset(due),
            }
        }
    }
}

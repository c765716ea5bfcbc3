//! The socket that hyper is given.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deadline::Deadline;
use super::wire::{FrameLimits, Owes, POISON, Verdict, Wire};
use super::{Activity, Limits, Traffic};

/// Most bytes that are read and thrown away when a connection is closed.
const MAX_LINGER: usize = 256 * 1024;

/// A socket that lets only well-formed HTTP through and keeps the deadlines of a connection.
///
/// Reading fails with [`io::ErrorKind::TimedOut`] when a head is late, and with
/// [`io::ErrorKind::InvalidData`] when an HTTP/2 connection breaks a limit; it ends as if the peer
/// had closed when the connection has been idle for too long. Writing fails with
/// [`io::ErrorKind::TimedOut`] when the peer takes nothing for too long.
#[derive(Debug)]
pub struct Guard<IO> {
    io: IO,
    limits: Limits,
    activity: Arc<Activity>,
    traffic: Option<Arc<Traffic>>,
    wire: Wire,
    input: Input,
    accepted: Instant,
    head_since: Option<Instant>,
    quiet_since: Option<Instant>,
    stall: Stall,
    read_deadline: Deadline,
    write_deadline: Deadline,
}

/// What a read yields.
#[derive(Debug)]
enum Input {
    /// What the peer sends.
    Open,
    /// What is left of [`POISON`], then the end.
    Poisoned(&'static [u8]),
    /// The end.
    Ended,
    /// The answer is out; what still comes is thrown away, at most so many bytes until then.
    Lingering { left: usize, until: Instant },
}

/// Since when the peer has taken nothing.
#[derive(Debug, Default)]
struct Stall {
    write: Option<Instant>,
    flush: Option<Instant>,
}

enum Expired {
    Head,
    Idle,
}

impl<IO> Guard<IO> {
    /// Guards a connection of HTTP/1, or of HTTP/2 if it begins with the preface of that.
    ///
    /// `traffic` counts the bytes of the connection. The deadline of the first head runs from this
    /// call.
    pub fn new(
        io: IO,
        limits: Limits,
        activity: Arc<Activity>,
        traffic: Option<Arc<Traffic>>,
    ) -> Self {
        Self::with(io, limits, activity, traffic, Wire::new(frame_limits(limits)))
    }

    /// Guards a connection on which HTTP/2 was agreed by ALPN: anything else than its preface ends
    /// it.
    pub fn h2(
        io: IO,
        limits: Limits,
        activity: Arc<Activity>,
        traffic: Option<Arc<Traffic>>,
    ) -> Self {
        Self::with(io, limits, activity, traffic, Wire::h2(frame_limits(limits)))
    }

    fn with(
        io: IO,
        limits: Limits,
        activity: Arc<Activity>,
        traffic: Option<Arc<Traffic>>,
        wire: Wire,
    ) -> Self {
        let accepted = Instant::now();
        Self {
            io,
            limits,
            activity,
            traffic,
            wire,
            input: Input::Open,
            accepted,
            head_since: Some(accepted),
            quiet_since: None,
            stall: Stall::default(),
            read_deadline: Deadline::default(),
            write_deadline: Deadline::default(),
        }
    }

    /// Judges the bytes of `buf` from `start` on, which have just come.
    fn admit(&mut self, buf: &mut ReadBuf<'_>, start: usize) -> io::Result<()> {
        let fresh = buf.filled_mut().get_mut(start..).unwrap_or_default();
        if fresh.is_empty() {
            return Ok(());
        }
        if let Some(traffic) = &self.traffic {
            traffic
                .read
                .fetch_add(u64::try_from(fresh.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.quiet_since = None;
        let (accepted, heads) = (self.accepted, self.wire.heads());
        let verdict = self
            .wire
            .inspect(fresh, || u64::try_from(accepted.elapsed().as_millis()).unwrap_or(u64::MAX));
        match verdict {
            Verdict::Pass => {
                if self.wire.owes() != Owes::Head || self.wire.heads() != heads {
                    self.head_since = None;
                }
                if self.wire.owes() == Owes::Head {
                    self.head_since.get_or_insert_with(Instant::now);
                }
                Ok(())
            }
            Verdict::Poison(at, fault) => {
                tracing::debug!(%fault, "request refused");
                buf.set_filled(start + at);
                self.input = Input::Poisoned(POISON);
                self.read_poison(buf);
                Ok(())
            }
            Verdict::End(fault) => {
                tracing::debug!(%fault, "connection ended");
                buf.set_filled(start);
                self.input = Input::Ended;
                Err(io::Error::new(io::ErrorKind::InvalidData, fault))
            }
        }
    }

    fn read_poison(&mut self, buf: &mut ReadBuf<'_>) {
        if let Input::Poisoned(left) = &mut self.input {
            let (now, later) = left.split_at_checked(buf.remaining()).unwrap_or((left, &[]));
            buf.put_slice(now);
            *left = later;
        }
    }

    /// Ready when the peer has kept silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        let (span_ms, since, expired) = match (self.wire.owes(), self.head_since) {
            (Owes::Head, Some(since)) => (self.limits.header_ms, since, Expired::Head),
            (Owes::Body, _) => return Poll::Pending,
            (Owes::Head | Owes::Nothing, _) => {
                let since = *self.quiet_since.get_or_insert_with(Instant::now);
                (self.limits.idle_ms, since.max(self.activity.last_end()), Expired::Idle)
            }
        };
        let span = Duration::from_millis(span_ms.max(1));
        if self.activity.in_flight() > 0 {
            // Silence says nothing now. The library may not read again when the exchange ends
            // (HTTP/2), so the timer has to look again by itself.
            let _ = self.read_deadline.poll(cx, Instant::now() + span);
            return Poll::Pending;
        }
        ready!(self.read_deadline.poll(cx, since + span));
        Poll::Ready(expired)
    }

    fn note_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                if count > 0 {
                    self.stall = Stall::default();
                    // The last bytes of an answer go out after its exchange has ended, and the
                    // library need not read again after them.
                    if self.activity.in_flight() == 0 {
                        self.quiet_since = Some(Instant::now());
                    }
                }
                if let Some(traffic) = &self.traffic {
                    traffic
                        .written
                        .fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let since = *self.stall.write.get_or_insert_with(Instant::now);
                self.poll_stall(cx, since).map(Err)
            }
        }
    }

    /// For flush and shutdown, whose success says nothing about a write that waits.
    fn note_flush(
        &mut self,
        cx: &mut Context<'_>,
        flushed: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        match flushed {
            Poll::Ready(result) => {
                self.stall.flush = None;
                Poll::Ready(result)
            }
            Poll::Pending => {
                let since = *self.stall.flush.get_or_insert_with(Instant::now);
                self.poll_stall(cx, since).map(Err)
            }
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>, since: Instant) -> Poll<io::Error> {
        ready!(
            self.write_deadline.poll(cx, since + Duration::from_millis(self.limits.write_stall_ms))
        );
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing"))
    }

    /// Whether the peer may be in the middle of sending what nobody will read.
    fn may_linger(&self) -> bool {
        match self.input {
            Input::Poisoned(_) => true,
            Input::Open => self.wire.is_mid_request(),
            Input::Ended | Input::Lingering { .. } => false,
        }
    }
}

impl<IO: AsyncRead + Unpin> Guard<IO> {
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Input::Lingering { left, until } = &mut self.input else { return Poll::Ready(()) };
        let mut scratch = [0; 4096];
        while *left > 0 {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    *left = left.saturating_sub(buf.filled().len())
                }
                Poll::Ready(Ok(()) | Err(_)) => break,
                Poll::Pending => return self.read_deadline.poll(cx, *until),
            }
        }
        Poll::Ready(())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.input {
            Input::Open => {}
            Input::Poisoned(_) => {
                this.read_poison(buf);
                return Poll::Ready(Ok(()));
            }
            Input::Ended | Input::Lingering { .. } => return Poll::Ready(Ok(())),
        }
        let start = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.admit(buf, start)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let expired = ready!(this.poll_silence(cx));
                this.input = Input::Ended;
                Poll::Ready(match expired {
                    Expired::Head => {
                        Err(io::Error::new(io::ErrorKind::TimedOut, "the head is late"))
                    }
                    Expired::Idle => Ok(()),
                })
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.note_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.note_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.note_flush(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !matches!(this.input, Input::Lingering { .. }) {
            let shut = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.note_flush(cx, shut))?;
            if !this.may_linger() {
                return Poll::Ready(Ok(()));
            }
            let until = Instant::now() + Duration::from_millis(this.limits.linger_ms);
            this.input = Input::Lingering { left: MAX_LINGER, until };
        }
        this.poll_linger(cx).map(Ok)
    }
}

fn frame_limits(limits: Limits) -> FrameLimits {
    FrameLimits { max_frame: limits.h2_max_frame, max_idle_work: limits.h2_max_idle_work }
}

#[cfg(test)]
mod tests;

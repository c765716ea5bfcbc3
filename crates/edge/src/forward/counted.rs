//! A connector that bounds each read from an upstream, and counts what is read: held against what was
//! written to agents, it shows how much the edge holds.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::Read;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tower_service::Service;

use crate::conn::Traffic;

/// What is read from an upstream at once, in bytes, at most. A slow reader makes the edge hold up to
/// three of these and what its own socket's buffer takes; a head takes as many reads as it needs.
const READ_AT_ONCE: u64 = 12 * 1024;

/// Counts on top of another connector.
#[derive(Debug, Clone)]
pub(crate) struct CountedConnector<C> {
    inner: C,
    traffic: Arc<Traffic>,
}

impl<C> CountedConnector<C> {
    pub(crate) fn new(inner: C, traffic: Arc<Traffic>) -> Self {
        Self { inner, traffic }
    }
}

/// The library's trait on the outside, the runtime's where it counts.
type Stream<T> = TokioIo<Counted<TokioIo<T>>>;
type Connecting<T, E> = Pin<Box<dyn Future<Output = Result<Stream<T>, E>> + Send>>;

impl<C> Service<Uri> for CountedConnector<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Response: Read + Send + Unpin,
{
    type Response = Stream<C::Response>;
    type Error = C::Error;
    type Future = Connecting<C::Response, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, traffic) = (self.inner.call(uri), Arc::clone(&self.traffic));
        Box::pin(async move {
            let inner = TokioIo::new(connecting.await?).take(READ_AT_ONCE);
            Ok(TokioIo::new(Counted { inner, traffic }))
        })
    }
}

/// A connection whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Counted<T> {
    inner: Take<T>,
    traffic: Arc<Traffic>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner.set_limit(READ_AT_ONCE);
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let count = buf.filled().len() - before;
        self.traffic.read.fetch_add(count as u64, Ordering::Relaxed);
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.inner.get_mut()).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.get_ref().is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.inner.get_mut()).poll_write_vectored(cx, bufs)
    }
}

impl<T: Read + Connection> Connection for Counted<TokioIo<T>> {
    fn connected(&self) -> Connected {
        self.inner.get_ref().inner().connected()
    }
}

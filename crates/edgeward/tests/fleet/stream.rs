//! A stream through a node, from both of its ends.

use edgeward_testkit::upstream::UpstreamStream;
use edgeward_testkit::{AsDoor, Conn, Piece, Signed, Upstream, soon};

/// An open stream.
pub(crate) struct Stream {
    conn: Conn,
    at_upstream: UpstreamStream,
}

impl Stream {
    /// Opens one, while nobody else does at this upstream.
    pub(crate) async fn open(upstream: &Upstream, request: Signed, node: &impl AsDoor) -> Self {
        let (head, conn) = request.accept_events().open(node).await;
        assert_eq!(head.status, 200, "{head:?}");
        let at_upstream = upstream.next_stream().await;
        let mut stream = Self { conn, at_upstream };
        stream.carries("the first").await;
        stream
    }

    /// An event comes through.
    pub(crate) async fn carries(&mut self, event: &str) {
        assert!(self.at_upstream.event(event).await, "the upstream's side has gone");
        let mut read = String::new();
        while !read.contains(event) {
            match soon("an event", self.conn.piece()).await {
                Piece::Data(bytes) => read.push_str(&String::from_utf8_lossy(&bytes)),
                ended @ (Piece::End | Piece::Broken) => panic!("{ended:?} instead of {event:?}"),
            }
        }
    }

    /// Waits until it is cut.
    pub(crate) async fn cut(mut self) {
        ended(&mut self.conn).await;
        self.at_upstream.gone().await;
    }
}

/// Waits until the body of a stream has ended, in order or not.
pub(crate) async fn ended(conn: &mut Conn) {
    soon("the end of a stream", async { while let Piece::Data(_) = conn.piece().await {} }).await;
}

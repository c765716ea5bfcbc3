//! An HTTP/1.1 client that sends exact bytes and reads what comes, independent of any HTTP library.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::soon;

/// Anything that bytes go over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Names as they came, values trimmed, in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The one value of a header.
    ///
    /// # Panics
    /// When it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let first = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.headers);
        first
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status and headers.
    pub head: Head,
    /// The body, its framing taken off.
    pub body: Vec<u8>,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The one value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {}", self.status(), self.text()))
    }

    /// `X-Edgeward-Code`.
    pub fn code(&self) -> Option<&str> {
        self.header("x-edgeward-code")
    }

    /// Itself, if the status is this.
    ///
    /// # Panics
    /// When it is another; the message shows the answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status(), status, "{:?} {}", self.head, self.text());
        self
    }

    /// Itself, if it is a refusal with this code.
    ///
    /// # Panics
    /// When it is another answer.
    #[track_caller]
    pub fn refused(self, code: &str) -> Self {
        assert_eq!(self.code(), Some(code), "{:?} {}", self.head, self.text());
        self
    }
}

/// A piece of a streamed body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes, as one chunk or one read gave them.
    Data(Vec<u8>),
    /// The body ended as it should.
    End,
    /// The connection ended before the body did.
    Broken,
}

enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
    Done,
}

/// A connection.
pub struct Conn {
    io: Box<dyn Io>,
    read: Vec<u8>,
    framing: Framing,
    /// The last request was a HEAD, whose answer has no body.
    bodyless: bool,
}

impl Conn {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let io = soon("a connection", TcpStream::connect(address)).await.unwrap();
        io.set_nodelay(true).unwrap();
        Self::over(io)
    }

    /// Speaks over a connection that is there.
    pub fn over(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), read: Vec::new(), framing: Framing::Done, bodyless: false }
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.bodyless = bytes.starts_with(b"HEAD ");
        soon("a write", self.io.write_all(bytes)).await.unwrap();
        soon("a flush", self.io.flush()).await.unwrap();
    }

    /// Sends bytes as far as the other side takes them; whether it took them all.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.bodyless = bytes.starts_with(b"HEAD ");
        soon("a write", self.io.write_all(bytes)).await.is_ok()
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(&mut self, bytes: &[u8]) -> Answer {
        self.send(bytes).await;
        self.answer().await
    }

    /// Reads a whole answer.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let mut body = Vec::new();
        loop {
            match self.piece().await {
                Piece::Data(bytes) => body.extend(bytes),
                Piece::End => return Answer { head, body },
                Piece::Broken => panic!("broken off: {head:?} {}", String::from_utf8_lossy(&body)),
            }
        }
    }

    /// Reads the head of an answer, 100 Continue passed over.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn head(&mut self) -> Head {
        self.try_head().await.expect("the connection ended before an answer")
    }

    /// Reads the head of an answer; `None` when the connection ends before one begins.
    ///
    /// # Panics
    /// When it is not HTTP.
    pub async fn try_head(&mut self) -> Option<Head> {
        loop {
            let end = loop {
                if let Some(at) = find(&self.read, b"\r\n\r\n") {
                    break at;
                }
                if self.fill().await == 0 {
                    return None;
                }
            };
            let text = String::from_utf8(self.read[..end].to_vec()).expect("a head of text");
            self.read.drain(..end + 4);
            let mut lines = text.split("\r\n");
            let line = lines.next().unwrap();
            let status = line.strip_prefix("HTTP/1.1 ").or(line.strip_prefix("HTTP/1.0 "));
            let status: u16 = status.expect(line)[..3].parse().expect(line);
            let headers = lines
                .map(|line| line.split_once(':').expect(line))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect();
            if status == 100 {
                continue;
            }
            let head = Head { status, headers };
            self.framing = self.framing_of(&head);
            return Some(head);
        }
    }

    /// Waits for 100 Continue: the other side has judged the head and wants the body.
    ///
    /// # Panics
    /// When it answers otherwise.
    pub async fn continued(&mut self) {
        const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        while self.read.len() < CONTINUE.len() && self.fill().await > 0 {}
        assert!(self.read.starts_with(CONTINUE), "{}", String::from_utf8_lossy(&self.read));
        self.read.drain(..CONTINUE.len());
    }

    /// Reads the next head and tells its status, 100 Continue too.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn next_status(&mut self) -> u16 {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at;
            }
            assert!(self.fill().await > 0, "the connection ended before an answer");
        };
        let text = String::from_utf8(self.read.drain(..end + 4).collect()).expect("a head of text");
        text.split(' ').nth(1).expect("a status").parse().expect("a status")
    }

    fn framing_of(&self, head: &Head) -> Framing {
        if self.bodyless || head.status == 204 || head.status == 304 {
            return Framing::Done;
        }
        match (head.header("transfer-encoding"), head.header("content-length")) {
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length.parse().unwrap()),
            (None, None) => Framing::UntilClose,
            other => panic!("ambiguous framing: {other:?}"),
        }
    }

    /// Reads the next piece of the body.
    ///
    /// # Panics
    /// When chunks are malformed.
    pub async fn piece(&mut self) -> Piece {
        match self.framing {
            Framing::Done | Framing::Length(0) => Piece::End,
            Framing::Length(left) => {
                if self.read.is_empty() && self.fill().await == 0 {
                    return Piece::Broken;
                }
                let taken: Vec<u8> = self.read.drain(..left.min(self.read.len())).collect();
                self.framing = Framing::Length(left - taken.len());
                Piece::Data(taken)
            }
            Framing::UntilClose => {
                if self.read.is_empty() && self.fill().await == 0 {
                    return Piece::End;
                }
                Piece::Data(std::mem::take(&mut self.read))
            }
            Framing::Chunked => self.chunk().await,
        }
    }

    async fn chunk(&mut self) -> Piece {
        loop {
            if let Some(at) = find(&self.read, b"\r\n") {
                let line = std::str::from_utf8(&self.read[..at]).unwrap();
                let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).expect(line);
                if self.read.len() >= at + 2 + size + 2 {
                    let data = self.read[at + 2..at + 2 + size].to_vec();
                    assert_eq!(&self.read[at + 2 + size..at + 4 + size], b"\r\n", "a chunk's end");
                    self.read.drain(..at + 4 + size);
                    if size == 0 {
                        self.framing = Framing::Done;
                        return Piece::End;
                    }
                    return Piece::Data(data);
                }
            }
            if self.fill().await == 0 {
                return Piece::Broken;
            }
        }
    }

    /// Whether the other side has closed the connection: waits until it has, or has sent something.
    pub async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && self.fill().await == 0
    }

    /// What has been read and not used yet.
    pub fn buffered(&self) -> &[u8] {
        &self.read
    }

    async fn fill(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        // A reset is an end too.
        let count = soon("a byte", self.io.read(&mut buffer)).await.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..count]);
        count
    }
}

/// Sends one request on a connection of its own and reads the answer.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    Conn::connect(address).await.exchange(bytes).await
}

/// A request with these header lines; `Host` and, with a body, `Content-Length` are added.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\nHost: edge.test\r\n");
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        out.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    out.push_str("\r\n");
    [out.as_bytes(), body].concat()
}

/// A body in the chunked coding, in chunks of `size`.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

pub(crate) fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conn")
    }
}

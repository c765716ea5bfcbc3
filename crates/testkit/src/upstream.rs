//! An upstream that records what it gets, byte for byte, and answers as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::raw::find;
use crate::soon;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The head's bytes, its empty line included.
    pub head: Vec<u8>,
    /// The body, its framing taken off.
    pub body: Vec<u8>,
    /// Counts the connections, from 0.
    pub connection: usize,
}

impl Recorded {
    /// The words of the request line.
    pub fn line(&self) -> [String; 3] {
        let text = String::from_utf8_lossy(&self.head);
        let words: Vec<_> = text.lines().next().unwrap().split(' ').map(str::to_owned).collect();
        words.try_into().expect("three words")
    }

    /// The method.
    pub fn method(&self) -> String {
        self.line()[0].clone()
    }

    /// The target.
    pub fn target(&self) -> String {
        self.line()[1].clone()
    }

    /// The headers in order, names as they came.
    pub fn headers(&self) -> Vec<(String, String)> {
        String::from_utf8_lossy(&self.head)
            .split("\r\n")
            .skip(1)
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(':').expect("a header line"))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.headers()
            .into_iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// Method, target, headers and body as JSON: what [`Reply::Echo`] answers.
    pub fn echo(&self) -> Value {
        json!({
            "method": self.method(),
            "target": self.target(),
            "headers": self.headers(),
            "body": String::from_utf8_lossy(&self.body),
        })
    }
}

/// What the upstream does about a request.
pub enum Reply {
    /// 200 with [`Recorded::echo`].
    Echo,
    /// A whole answer with these header lines beside `Content-Length`.
    Whole(u16, Vec<(String, String)>, Vec<u8>),
    /// Exactly these bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// A stream of events that the test feeds: see [`Upstream::next_stream`].
    Events,
    /// A stream with this head, fed by the test: in chunks, unless the head announces a length.
    Stream(u16, Vec<(String, String)>),
    /// The connection is closed without an answer.
    HangUp,
    /// Nothing, until the other side gives up.
    Never,
    /// Something else, after the test has said so (or dropped the sender).
    After(oneshot::Receiver<()>, Box<Reply>),
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

type Plan = Box<dyn FnMut(&Recorded) -> Reply + Send>;

struct Inner {
    plan: Mutex<Plan>,
    recorded: Mutex<Vec<Recorded>>,
    opened: mpsc::UnboundedSender<UpstreamStream>,
    connections: Mutex<usize>,
}

/// The upstream; it stops when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    inner: Arc<Inner>,
    opened: tokio::sync::Mutex<mpsc::UnboundedReceiver<UpstreamStream>>,
    stop: CancellationToken,
}

impl Upstream {
    /// Listens on a free port of the loopback. Requests that accept `text/event-stream` get
    /// [`Reply::Events`], others [`Reply::Echo`].
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            plan: Mutex::new(Box::new(usual)),
            recorded: Mutex::default(),
            opened: sender,
            connections: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let (serving, stopped) = (Arc::clone(&inner), stop.clone());
        tokio::spawn(async move {
            let accept = async {
                while let Ok((io, _)) = listener.accept().await {
                    let (inner, stopped) = (Arc::clone(&serving), stopped.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = serve(io, inner) => {}
                            () = stopped.cancelled() => {}
                        }
                    });
                }
            };
            tokio::select! {
                () = accept => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { address, inner, opened: tokio::sync::Mutex::new(receiver), stop }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers so.
    pub fn plan(&self, plan: impl FnMut(&Recorded) -> Reply + Send + 'static) {
        *self.inner.plan.lock().unwrap() = Box::new(plan);
    }

    /// All requests so far, in the order in which they were whole.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.inner.recorded.lock().unwrap().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.inner.recorded.lock().unwrap().len()
    }

    /// Forgets what came; gives it out.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.inner.recorded.lock().unwrap())
    }

    /// The last request.
    ///
    /// # Panics
    /// When none came.
    pub fn last(&self) -> Recorded {
        self.recorded().pop().expect("a request at the upstream")
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        *self.inner.connections.lock().unwrap()
    }

    /// The next stream that was opened, to be fed. Its head is sent already.
    ///
    /// # Panics
    /// When none is opened for too long.
    pub async fn next_stream(&self) -> UpstreamStream {
        let mut opened = self.opened.lock().await;
        soon("a stream at the upstream", opened.recv()).await.unwrap()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({})", self.address)
    }
}

fn usual(request: &Recorded) -> Reply {
    let accepts = request.header("accept").unwrap_or_default();
    if accepts.contains("text/event-stream") { Reply::Events } else { Reply::Echo }
}

/// The upstream's end of a stream. Dropping it breaks the connection off; [`end`](Self::end) ends the
/// body in order.
#[derive(Debug)]
pub struct UpstreamStream {
    /// The request that opened it.
    pub request: Recorded,
    feed: mpsc::Sender<Option<Vec<u8>>>,
    gone: CancellationToken,
}

impl UpstreamStream {
    /// Sends bytes, as one chunk; waits while the other side does not take them. Whether it is still
    /// there.
    pub async fn send(&self, bytes: impl Into<Vec<u8>>) -> bool {
        self.feed.send(Some(bytes.into())).await.is_ok()
    }

    /// Sends one event.
    pub async fn event(&self, data: &str) -> bool {
        self.send(format!("data: {data}\n\n")).await
    }

    /// Ends the body in order.
    pub async fn end(self) {
        let _ = self.feed.send(None).await;
        soon("the end of a stream", self.gone.cancelled()).await;
    }

    /// Waits until the other side has gone.
    pub async fn gone(&self) {
        soon("the other side going", self.gone.cancelled()).await;
    }

    /// Whether the other side has gone.
    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }
}

async fn serve(mut io: TcpStream, inner: Arc<Inner>) {
    let _ = io.set_nodelay(true);
    let connection = {
        let mut connections = inner.connections.lock().unwrap();
        *connections += 1;
        *connections - 1
    };
    let mut read = Vec::new();
    while let Some(request) = read_request(&mut io, &mut read, connection).await {
        inner.recorded.lock().unwrap().push(request.clone());
        let mut reply = (inner.plan.lock().unwrap())(&request);
        while let Reply::After(gate, then) = reply {
            let _ = gate.await;
            reply = *then;
        }
        if !answer(&mut io, reply, request, &inner).await {
            return;
        }
    }
}

/// Whether the connection goes on.
async fn answer(io: &mut TcpStream, reply: Reply, request: Recorded, inner: &Inner) -> bool {
    match reply {
        Reply::Echo => {
            let headers = [("content-type".to_owned(), "application/json".to_owned())];
            whole(io, &request, 200, &headers, request.echo().to_string().as_bytes()).await
        }
        Reply::Whole(status, headers, body) => whole(io, &request, status, &headers, &body).await,
        Reply::Raw(bytes) => {
            let _ = io.write_all(&bytes).await;
            let _ = io.shutdown().await;
            false
        }
        Reply::Events => {
            let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
            stream(io, 200, headers, request, inner).await
        }
        Reply::Stream(status, headers) => stream(io, status, headers, request, inner).await,
        Reply::HangUp => false,
        Reply::Never => {
            let _ = io.read(&mut [0]).await;
            false
        }
        Reply::After(..) => false,
    }
}

async fn whole(
    io: &mut TcpStream,
    request: &Recorded,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> bool {
    let mut out = head(status, headers);
    out.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let body = if request.method() == "HEAD" { b"" } else { body };
    io.write_all(&[out.as_bytes(), body].concat()).await.is_ok()
}

fn head(status: u16, headers: &[(String, String)]) -> String {
    let mut out = format!("HTTP/1.1 {status} Status\r\n");
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out
}

async fn stream(
    io: &mut TcpStream,
    status: u16,
    headers: Vec<(String, String)>,
    request: Recorded,
    inner: &Inner,
) -> bool {
    let chunked = !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let framing = if chunked { "transfer-encoding: chunked\r\n\r\n" } else { "\r\n" };
    let head = head(status, &headers) + framing;
    if io.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    let (feed, mut fed) = mpsc::channel::<Option<Vec<u8>>>(1);
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let _ = inner.opened.send(UpstreamStream { request, feed, gone });
    let (mut from, mut to) = io.split();
    let mut byte = [0];
    let mut write = async || {
        while let Some(piece) = fed.recv().await {
            let Some(bytes) = piece else {
                return !chunked || to.write_all(b"0\r\n\r\n").await.is_ok();
            };
            if !chunked {
                if to.write_all(&bytes).await.is_err() {
                    return false;
                }
                continue;
            }
            let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
            if to.write_all(&chunk).await.is_err() {
                return false;
            }
        }
        false
    };
    let goes_on = tokio::select! {
        goes_on = write() => goes_on,
        // The other side has closed, since it sends nothing while the stream lasts.
        _ = from.read(&mut byte) => false,
    };
    drop(guard);
    goes_on
}

async fn read_request(
    io: &mut TcpStream,
    read: &mut Vec<u8>,
    connection: usize,
) -> Option<Recorded> {
    let end = loop {
        if let Some(at) = find(read, b"\r\n\r\n") {
            break at + 4;
        }
        more(io, read).await?;
    };
    let head: Vec<u8> = read.drain(..end).collect();
    let mut request = Recorded { head, body: Vec::new(), connection };
    if request.header("transfer-encoding").is_some() {
        loop {
            let at = loop {
                if let Some(at) = find(read, b"\r\n") {
                    break at;
                }
                more(io, read).await?;
            };
            let size = usize::from_str_radix(std::str::from_utf8(&read[..at]).ok()?, 16).ok()?;
            while read.len() < at + 2 + size + 2 {
                more(io, read).await?;
            }
            request.body.extend_from_slice(&read[at + 2..at + 2 + size]);
            read.drain(..at + 4 + size);
            if size == 0 {
                return Some(request);
            }
        }
    }
    let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    while read.len() < length {
        more(io, read).await?;
    }
    request.body = read.drain(..length).collect();
    Some(request)
}

async fn more(io: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    let count = io.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
    read.extend_from_slice(&buffer[..count]);
    Some(())
}

/// An address that refuses connections, and that nobody else is given meanwhile.
#[derive(Debug)]
pub struct Nobody(tokio::net::TcpSocket);

impl Nobody {
    /// Takes a port and does not listen.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn here() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self(socket)
    }

    /// `http://…`
    ///
    /// # Panics
    /// When the system cannot tell.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

//! Raw bytes against a real hyper server behind the guard.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edgeward_edge::conn::chunked::{Chunks, Step};
use edgeward_edge::conn::head::{Framing, judge};
use edgeward_edge::conn::{Activity, Guard, Limits};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Far beyond anything that a passing test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

const GOOD: &str = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// An echo service: answers 200 and the length of the body, or 400 when the body fails.
#[derive(Clone)]
struct Echo {
    /// Targets of the heads that came.
    heads: Arc<Mutex<Vec<String>>>,
    /// Targets of the requests that came whole.
    served: Arc<Mutex<Vec<String>>>,
    /// A request for `/wait` takes a permit before it is answered.
    permits: Arc<Semaphore>,
    limits: Limits,
}

impl Echo {
    fn new(limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(0));
        Self { heads: Arc::default(), served: Arc::default(), permits, limits }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn served(&self) -> Vec<String> {
        self.served.lock().unwrap().clone()
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let target = request.uri().to_string();
        self.heads.lock().unwrap().push(target.clone());
        let Ok(body) = request.into_body().collect().await else {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        };
        if target == "/wait" {
            self.permits.acquire().await.unwrap().forget();
        }
        self.served.lock().unwrap().push(target);
        Response::new(Full::from(format!("len={}", body.to_bytes().len())))
    }

    async fn serve<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: IO) {
        let activity = Arc::new(Activity::new());
        let guard = Guard::new(io, self.limits, Arc::clone(&activity), None);
        let service = service_fn(move |request| {
            let (echo, activity) = (self.clone(), Arc::clone(&activity));
            async move {
                let _in_flight = Activity::begin(&activity);
                Ok::<_, Infallible>(echo.answer(request).await)
            }
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        // How a connection ends is the peer's to see.
        let _ = builder.serve_connection(TokioIo::new(guard), service).await;
    }

    /// Serves on a free port of the loopback.
    async fn listen(self) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(self.clone().serve(io));
            }
        });
        address
    }

    /// Serves one connection without a network; at most `window` bytes are under way in each
    /// direction.
    fn connect(&self, window: usize) -> DuplexStream {
        let (client, server) = duplex(window);
        tokio::spawn(self.clone().serve(server));
        client
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened for too long")
}

/// All that comes until the server closes.
async fn read_all(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    soon(io.read_to_end(&mut answer)).await.expect("the connection is closed in order");
    String::from_utf8(answer).unwrap()
}

/// Sends and reads at the same time, until the server closes.
async fn exchange(client: DuplexStream, request: &str) -> String {
    let (mut reader, mut writer) = tokio::io::split(client);
    let write = async {
        // The server may close before it has read everything.
        let _ = writer.write_all(request.as_bytes()).await;
    };
    tokio::join!(read_all(&mut reader), write).0
}

async fn read_until(io: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut answer = String::new();
    while !answer.ends_with(end) {
        answer.push(char::from(soon(io.read_u8()).await.expect("the connection is open")));
    }
    answer
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /attack HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// Attacks on a head: name, bytes.
fn head_attacks() -> Vec<(&'static str, String)> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let empty = "0\r\n\r\n";
    vec![
        ("length, then encoding", post(&format!("Content-Length: 5\r\n{chunked}"), empty)),
        ("encoding, then length", post(&format!("{chunked}Content-Length: 5\r\n"), empty)),
        ("empty member in encoding", post("Transfer-Encoding: ,chunked\r\n", empty)),
        ("chunked twice in one", post("Transfer-Encoding: chunked, chunked\r\n", empty)),
        ("chunked twice", post(&format!("{chunked}{chunked}"), empty)),
        ("another coding", post("Transfer-Encoding: gzip, chunked\r\n", empty)),
        ("identity", post("Transfer-Encoding: identity\r\n", "")),
        ("blank before the colon", post("Transfer-Encoding : chunked\r\n", empty)),
        ("two lengths", post("Content-Length: 0\r\nContent-Length: 5\r\n", "12345")),
        ("two equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "12345")),
        ("list of lengths", post("Content-Length: 5, 5\r\n", "12345")),
        ("signed length", post("Content-Length: +5\r\n", "12345")),
        ("long length", post("Content-Length: 00000000000000000005\r\n", "12345")),
        ("bare LF after a field", post("A: b\nC: d\r\n", "")),
        ("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\n\n".into()),
        ("bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n".into()),
        ("bare CR", post("A: b\rC: d\r\n", "")),
        ("obs-fold", post("A: b\r\n c\r\n", "")),
        ("folded first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into()),
        ("NUL in a value", post("A: b\0\r\n", "")),
        ("DEL in a value", post("A: \u{7f}\r\n", "")),
        ("empty name", post(": b\r\n", "")),
        ("no colon", post("A\r\n", "")),
        ("leading empty line", format!("\r\n{GOOD}")),
        ("leading line feeds", format!("\n\n{GOOD}")),
        ("chunked in 1.0", format!("POST / HTTP/1.0\r\nHost: a\r\n{chunked}\r\n{empty}")),
        ("unknown version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n".into()),
        ("no version", "GET /\r\n\r\n".into()),
        ("two blanks", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("no host", "GET / HTTP/1.1\r\n\r\n".into()),
        ("two hosts", post("Host: b\r\n", "")),
        ("65 fields", post(&"A: b\r\n".repeat(64), "")),
        ("17 KiB", post(&format!("A: {}\r\n", "b".repeat(17 * 1024)), "")),
        ("many headers and no end", post(&"A: b\r\n".repeat(3000), "")),
        ("late preface", "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n".into()),
    ]
}

/// Attacks in a chunked body: what comes after the head.
fn body_attacks() -> Vec<&'static str> {
    vec![
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "1000000000000000\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\0b\r\nabc\r\n0\r\n\r\n",
        "0;a\0b\r\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "0\r\nA: b\nC: d\r\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\n A: b\r\n\r\n",
        "0\r\nA: b\0\r\n\r\n",
        "0\r\nA: b\r\n\r0",
    ]
}

#[tokio::test]
async fn attacks_on_a_head_reach_nobody() {
    let echo = Echo::new(Limits::default());
    let address = echo.clone().listen().await;
    for (name, attack) in head_attacks() {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(format!("{attack}{SMUGGLED}").as_bytes()).await.unwrap();
        let answer = read_all(&mut socket).await;
        assert_eq!(statuses(&answer), ["400"], "{name}");
        assert_eq!(echo.heads(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn attacks_on_a_head_may_come_byte_by_byte() {
    for (name, attack) in head_attacks() {
        let echo = Echo::new(Limits::default());
        let answer = exchange(echo.connect(1), &format!("{attack}{SMUGGLED}")).await;
        assert_eq!(statuses(&answer), ["400"], "{name}");
        assert_eq!(echo.heads(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn attacks_in_a_body_fail_the_body() {
    let echo = Echo::new(Limits::default());
    let address = echo.clone().listen().await;
    for attack in body_attacks() {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = post("Transfer-Encoding: chunked\r\n", attack);
        socket.write_all(format!("{request}{SMUGGLED}").as_bytes()).await.unwrap();
        let answer = read_all(&mut socket).await;
        assert_eq!(statuses(&answer), ["400"], "{attack:?}");
        assert_eq!(echo.served(), Vec::<String>::new(), "{attack:?}");
    }
    assert!(echo.heads().iter().all(|target| target == "/attack"), "nothing was smuggled");
}

#[tokio::test]
async fn attacks_in_a_body_may_come_byte_by_byte() {
    for attack in body_attacks() {
        let echo = Echo::new(Limits::default());
        let request = post("Transfer-Encoding: chunked\r\n", attack);
        let answer = exchange(echo.connect(1), &format!("{request}{SMUGGLED}")).await;
        assert_eq!(statuses(&answer), ["400"], "{attack:?}");
        assert_eq!(echo.served(), Vec::<String>::new(), "{attack:?}");
        assert_eq!(echo.heads(), ["/attack"], "{attack:?}");
    }
}

#[tokio::test]
async fn good_requests_are_served_however_they_are_cut() {
    let requests = [
        ("GET /good?a=b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "len=0"),
        ("PROPFIND /good HTTP/1.1\r\nhost: a\r\nConnection: close\r\n\r\n", "len=0"),
        (
            "POST /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
            "len=5",
        ),
        (
            "POST /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             5;e=f\r\nhello\r\n00a\r\n0123456789\r\n0\r\nA: b\r\nC:\r\n\r\n",
            "len=15",
        ),
        ("POST /good HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", "len=2"),
    ];
    for (request, body) in requests {
        for cut in 0..request.len() {
            let echo = Echo::new(Limits::default());
            let mut client = echo.connect(64 * 1024);
            let (first, second) = request.as_bytes().split_at(cut);
            client.write_all(first).await.unwrap();
            // One thread: the server gets to read the first piece before the second is there.
            for _ in 0..10 {
                yield_now().await;
            }
            client.write_all(second).await.unwrap();
            let answer = read_all(&mut client).await;
            assert!(answer.contains(" 200 OK\r\n"), "{request:?} cut at {cut}: {answer}");
            assert!(answer.ends_with(body), "{request:?} cut at {cut}: {answer}");
            assert_eq!(echo.served().len(), 1, "{request:?} cut at {cut}");
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_up_to_the_bad_one() {
    let echo = Echo::new(Limits::default());
    let mut client = echo.connect(64 * 1024);
    let length = post("Content-Length: 3\r\n", "abc");
    let chunked = post("Transfer-Encoding: chunked\r\n", "4\r\nabcd\r\n0\r\n\r\n");
    let bad = post("Content-Length: 1\r\nContent-Length: 1\r\n", "a");
    let wait = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    let all = [GOOD, &length, &chunked, GOOD, wait, &bad, SMUGGLED].concat();
    client.write_all(all.as_bytes()).await.unwrap();
    // The first four are answered while the bad one lies behind the fifth, which is then answered
    // too.
    let mut answers = read_until(&mut client, "len=3").await;
    echo.permits.add_permits(1);
    answers += &read_all(&mut client).await;
    assert_eq!(statuses(&answers), ["200", "200", "200", "200", "200", "400"]);
    let bodies: Vec<_> = answers.split("len=").skip(1).map(|answer| &answer[..1]).collect();
    assert_eq!(bodies, ["0", "3", "4", "0", "0"]);
    assert_eq!(echo.served(), ["/good", "/attack", "/attack", "/good", "/wait"]);
}

#[tokio::test]
async fn a_bad_request_does_not_end_the_one_that_is_being_answered() {
    let echo = Echo::new(Limits::default());
    let mut client = echo.connect(64 * 1024);
    client.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    while echo.heads().is_empty() {
        yield_now().await;
    }
    client.write_all(b"GET / HTTP/1.1\nHost: a\n\n").await.unwrap();
    for _ in 0..10 {
        yield_now().await;
    }
    echo.permits.add_permits(1);
    assert_eq!(statuses(&read_all(&mut client).await), ["200", "400"]);
}

#[tokio::test]
async fn expectations_are_met() {
    let echo = Echo::new(Limits::default());
    let mut client = echo.connect(64 * 1024);
    let fields = "Expect: 100-continue\r\nConnection: close\r\nContent-Length: 4\r\n";
    client.write_all(post(fields, "").as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    assert!(read_all(&mut client).await.ends_with("len=4"));
}

#[tokio::test]
async fn a_fragment_is_not_cut_away() {
    let echo = Echo::new(Limits::default());
    let mut client = echo.connect(64 * 1024);
    let targets = ["/a#b", "/a?b#41", "/a#"];
    for target in targets {
        client
            .write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .await
            .unwrap();
        read_until(&mut client, "len=0").await;
    }
    assert_eq!(echo.served(), ["/a%%", "/a?b%%%", "/a%"]);
}

#[tokio::test]
async fn a_slow_head_is_closed() {
    let limits = Limits { header_ms: 100, ..Limits::default() };
    let address = Echo::new(limits).listen().await;
    for sent in ["", "G", "GET / HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(read_all(&mut socket).await, "", "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchange_in_flight_outlives_every_deadline() {
    let echo = Echo::new(Limits::default());
    let mut client = echo.connect(64 * 1024);
    client.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    echo.permits.add_permits(1);
    let answered = read_until(&mut client, "len=0").await;
    assert_eq!(statuses(&answered), ["200"]);
    let since = tokio::time::Instant::now();
    assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert_eq!(since.elapsed().as_secs(), 60, "then it is idle");
}

#[tokio::test]
async fn http2_passes() {
    let echo = Echo::new(Limits::default());
    let address = echo.clone().listen().await;
    let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    let connection = tokio::spawn(connection);
    for length in [0, 5, 100_000] {
        let request =
            Request::post("http://a/good").body(Full::<Bytes>::from(vec![b'a'; length])).unwrap();
        let answer = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body = soon(answer.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(body, format!("len={length}"));
    }
    drop(sender);
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_connection() {
    let echo = Echo::new(Limits::default());
    let address = echo.clone().listen().await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let opening = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat();
    socket.write_all(&opening).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let answered = async {
        let mut pongs = 0_usize;
        let mut header = [0; 9];
        // A reset that overtakes the last bytes is an end as well.
        while reader.read_exact(&mut header).await.is_ok() {
            let mut payload = vec![0; usize::from(u16::from_be_bytes([header[1], header[2]]))];
            if reader.read_exact(&mut payload).await.is_err() {
                break;
            }
            pongs += usize::from(header[3] == 6);
        }
        pongs
    };
    let flood = async {
        for _ in 0..2000 {
            if writer.write_all(&ping).await.is_err() {
                break;
            }
        }
        std::future::pending::<usize>().await
    };
    let pongs = soon(async {
        tokio::select! { pongs = answered => pongs, never = flood => never }
    })
    .await;
    assert!(pongs < 1000, "{pongs} pings were answered");
}

/// Heads of a stream of bytes, counted by the rules alone: up to the first that is not in order.
fn heads_in_order(mut bytes: &[u8]) -> usize {
    let mut heads = 0;
    while let Ok(Some(head)) = judge(bytes) {
        heads += 1;
        bytes = &bytes[head.len..];
        match head.framing {
            Framing::Empty => {}
            Framing::Length(length) => {
                bytes = bytes.get(usize::try_from(length).unwrap()..).unwrap_or_default();
            }
            Framing::Chunked => match Chunks::default().feed(bytes) {
                Step::End(used) => bytes = &bytes[used..],
                Step::More | Step::Refused(..) => return heads,
            },
        }
    }
    heads
}

fn stream() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        GOOD,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n",
        "POST /#a HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\n",
        "Host: a\r\n",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: x, chunked\r\n",
        "A: b\r\n",
        "\r\n\r\n",
        "\r\n",
        "\r",
        "\n",
        "\n\n",
        " ",
        ":",
        "\0",
        "0\r\n",
        "0;\0\r\n\r\n",
        "1\r\n",
    ]);
    prop::collection::vec(parts, 1..9).prop_map(|parts| parts.concat())
}

proptest! {
    /// However the bytes lie and are cut, hyper serves the heads that the rules allow, no more and
    /// no fewer.
    #[test]
    fn hyper_reads_what_the_rules_read(stream in stream(), window in 1_usize..300) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let heads = runtime.block_on(async {
            let echo = Echo::new(Limits::default());
            let (mut reader, mut writer) = tokio::io::split(echo.connect(window));
            let drain = tokio::spawn(async move { reader.read_to_end(&mut Vec::new()).await });
            let _ = writer.write_all(stream.as_bytes()).await;
            // The clock stands until nothing can be done any more.
            tokio::time::sleep(Duration::from_secs(1)).await;
            drain.abort();
            echo.heads().len()
        });
        prop_assert_eq!(heads, heads_in_order(stream.as_bytes()));
    }
}

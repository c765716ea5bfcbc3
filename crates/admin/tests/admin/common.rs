//! A listener in a folder of its own, a source that the test sets, and calls byte by byte.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use edgeward_admin::{
    Actor, AdminConfig, AdminServer, BindError, Check, Readiness, Source, SourceUnavailable,
    StandingAnswer, Status,
};
use edgeward_core::record::Standing;
use edgeward_wire::AgentId;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough that only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// An agent, what it was to be, by whom, and why.
pub(crate) type Asked = (String, Standing, String, Option<String>);

pub(crate) struct Told {
    pub(crate) checks: Mutex<Vec<Check>>,
    /// What comes of asking for a standing.
    pub(crate) standing: Mutex<Result<Option<StandingAnswer>, String>>,
    /// Of whom what was asked, by whom, and why.
    pub(crate) asked: Mutex<Vec<Asked>>,
}

#[async_trait]
impl Source for Told {
    async fn readiness(&self) -> Readiness {
        Readiness::of(self.checks.lock().unwrap().clone())
    }

    async fn status(&self) -> Status {
        Status {
            version: "1.2.3".to_owned(),
            admitted: 7,
            refused_by_code: [("nonce_replayed".to_owned(), 2)].into(),
            p50_us: Some(90),
            ..Status::default()
        }
    }

    async fn set_standing(
        &self,
        id: AgentId,
        to: Standing,
        by: &Actor,
        reason: Option<String>,
    ) -> Result<Option<StandingAnswer>, SourceUnavailable> {
        self.asked.lock().unwrap().push((id.to_string(), to, by.to_string(), reason));
        self.standing.lock().unwrap().clone().map_err(SourceUnavailable)
    }
}

/// A folder for one edge, which outlives starts and stops.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("admin").join("admin.sock")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("admin").join("operator.token")
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.token_file()).unwrap().trim_end().to_owned()
    }

    pub(crate) fn config(&self) -> AdminConfig {
        AdminConfig {
            socket_path: self.socket(),
            tcp: Some(([127, 0, 0, 1], 0).into()),
            token_file: self.token_file(),
        }
    }

    pub(crate) async fn start(&self) -> Running {
        Running::over(self.bind().await.unwrap())
    }

    pub(crate) async fn bind(&self) -> Result<AdminServer, BindError> {
        AdminServer::bind(self.config()).await
    }
}

pub(crate) struct Running {
    pub(crate) port: u16,
    pub(crate) source: Arc<Told>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    socket: PathBuf,
}

impl Running {
    pub(crate) fn over(server: AdminServer) -> Self {
        let stop = CancellationToken::new();
        let checks = Mutex::new(vec![Check::passed("database", "answers")]);
        let source =
            Arc::new(Told { checks, standing: Mutex::new(Ok(None)), asked: Mutex::default() });
        let port = server.tcp_address().unwrap().port();
        let socket = server.socket_path().to_owned();
        let serving = tokio::spawn(server.serve(Arc::clone(&source) as _, stop.clone()));
        Self { port, source, stop, serving, socket }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.serving).await.unwrap().unwrap();
    }

    /// Over TCP with our Host, and these header lines.
    pub(crate) async fn tcp(&self, request_line: &str, headers: &[&str]) -> Answer {
        let host = format!("Host: 127.0.0.1:{}", self.port);
        self.tcp_raw(request_line, &[&[host.as_str()], headers].concat()).await
    }

    /// Over TCP with just these header lines.
    pub(crate) async fn tcp_raw(&self, request_line: &str, headers: &[&str]) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        exchange(stream, request_line, headers, "").await
    }

    /// Over TCP with just these header lines, and a body.
    pub(crate) async fn tcp_with(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        exchange(stream, line, headers, body).await
    }

    pub(crate) async fn unix(&self, request_line: &str, headers: &[&str]) -> Answer {
        self.unix_with(request_line, headers, "").await
    }

    pub(crate) async fn unix_with(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        exchange(stream, line, &[&["Host: localhost"], headers].concat(), body).await
    }
}

/// An answer, read to the end of its connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

async fn exchange<S>(mut stream: S, request_line: &str, headers: &[&str], body: &str) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lines = headers.iter().map(|line| format!("{line}\r\n")).collect::<String>();
    let request = format!("{request_line} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

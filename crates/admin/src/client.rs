//! The other end of the admin listener, for commands on the same machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::token::OperatorToken;

/// How long a call may take, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The largest answer, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Why there is no answer. No message shows the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is none that a token may be sent to.
    #[error(
        "the admin URL must be http://localhost:PORT, http://127.0.0.1:PORT or http://[::1]:PORT, without a path"
    )]
    Url,
    /// Nobody answers.
    #[error("no edge answers on the admin socket {socket} ({fault}){beside}: is it running?")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        fault: String,
        /// What became of the URL, if there is one.
        beside: String,
    },
    /// The path cannot be asked for.
    #[error("not a path of the admin API")]
    Path,
    /// The answer broke off or made no sense.
    #[error("the admin listener did not answer as it should: {0}")]
    Answer(String),
    /// The answer took too long.
    #[error("the admin listener did not answer within {} s", TIMEOUT.as_secs())]
    TooSlow,
}

/// Asks the admin listener: over the Unix socket, or, where nobody answers there, over TCP with a
/// token.
#[derive(Debug, Clone)]
pub struct AdminClient {
    socket: PathBuf,
    remote: Option<Remote>,
}

/// The way over TCP.
#[derive(Debug, Clone)]
struct Remote {
    authority: String,
    token: OperatorToken,
}

impl AdminClient {
    /// Over this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), remote: None }
    }

    /// Where nobody answers on the socket, at this URL with this token.
    ///
    /// # Errors
    /// [`ClientError::Url`] when the token would leave the machine in the clear.
    pub fn with_url(mut self, url: &str, token: OperatorToken) -> Result<Self, ClientError> {
        let url: Uri = url.parse().map_err(|_| ClientError::Url)?;
        let plain = url.scheme_str() == Some("http") && url.path() == "/" && url.query().is_none();
        let local = matches!(url.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@'));
        let (true, true, Some(authority)) = (plain, local, authority) else {
            return Err(ClientError::Url);
        };
        self.remote = Some(Remote { authority: authority.as_str().to_owned(), token });
        Ok(self)
    }

    /// Gets a path: the status, and the body as JSON, a refusal's too.
    ///
    /// # Errors
    /// When nobody answers, or not with JSON.
    pub async fn get(&self, path: &str) -> Result<(StatusCode, Value), ClientError> {
        self.ask(Method::GET, path, None).await
    }

    /// Posts JSON to a path: the status, and the body as JSON, a refusal's too.
    ///
    /// # Errors
    /// As [`get`](Self::get). Unless nobody was reached, what was asked may have been done.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value), ClientError> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), ClientError> {
        let asked = self.ask_unhurried(call(method, path, body)?);
        tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| ClientError::TooSlow)?
    }

    async fn ask_unhurried(&self, request: Call) -> Result<(StatusCode, Value), ClientError> {
        let refused = match UnixStream::connect(&self.socket).await {
            Ok(stream) => return exchange(stream, with_host(request, "localhost")?).await,
            Err(error) => error.to_string(),
        };
        let unreachable = |beside| ClientError::Unreachable {
            socket: self.socket.clone(),
            fault: refused,
            beside,
        };
        let Some(remote) = &self.remote else {
            return Err(unreachable(String::new()));
        };
        let stream = match remote.connect().await {
            Ok(stream) => stream,
            Err(error) => {
                return Err(unreachable(format!(" nor at {} ({error})", remote.authority)));
            }
        };
        let mut request = with_host(request, &remote.authority)?;
        request.headers_mut().insert(AUTHORIZATION, remote.bearer()?);
        exchange(stream, request).await
    }
}

type Call = Request<Full<Bytes>>;

fn call(method: Method, path: &str, body: Option<&Value>) -> Result<Call, ClientError> {
    if !path.starts_with('/') {
        return Err(ClientError::Path);
    }
    let mut request = Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    request.body(Full::new(body.into())).map_err(|_| ClientError::Path)
}

impl Remote {
    /// Connects, to this machine only, whatever the name resolves to.
    async fn connect(&self) -> std::io::Result<TcpStream> {
        let named = match self.authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => self.authority.clone(),
            Some(_) | None => format!("{}:80", self.authority),
        };
        let here = |address: &SocketAddr| address.ip().is_loopback();
        let addresses: Vec<_> = tokio::net::lookup_host(named).await?.filter(here).collect();
        TcpStream::connect(addresses.as_slice()).await
    }

    fn bearer(&self) -> Result<HeaderValue, ClientError> {
        let text = zeroize::Zeroizing::new(format!("Bearer {}", self.token.as_str()));
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| ClientError::Answer("the token cannot be sent".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn with_host(mut request: Call, host: &str) -> Result<Call, ClientError> {
    let host = HeaderValue::from_str(host).map_err(|_| ClientError::Url)?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

async fn exchange<S>(stream: S, request: Call) -> Result<(StatusCode, Value), ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| ClientError::Answer(error.to_string()))?.to_bytes();
        let value = serde_json::from_slice(&body)
            .map_err(|error| ClientError::Answer(format!("{status}, not JSON: {error}")))?;
        Ok((status, value))
    };
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        // Its end may come before all that it delivered has been read.
        _ = connection => asked.await,
    }
}

fn broken(error: hyper::Error) -> ClientError {
    ClientError::Answer(error.to_string())
}

//! A connection to a server, before anything is known of the server.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ErrorKind, Pipeline, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisError, Value,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::options::{HostPort, RedisOptions};
use crate::start::StartError;
use crate::tls;

/// How many writes may wait for the socket.
const QUEUE: usize = 1024;

/// What connections of one kind, to servers or to sentinels, have in common.
pub(crate) struct Dialer {
    tls: Option<TlsConnector>,
    info: RedisConnectionInfo,
    connect_timeout: Duration,
}

/// Who takes what the server says unasked.
pub(crate) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

/// A connection. It dies for all who use it, once.
#[derive(Debug)]
pub(crate) struct Line {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    /// Why it died.
    death: Arc<watch::Sender<Option<String>>>,
}

/// Why a line could not be had.
#[derive(Debug)]
pub(crate) enum DialError {
    /// Nobody answers there, or not in time, or not in this tongue.
    Unreachable(String),
    /// The server does not let us in.
    Refused(String),
    /// The server does not speak RESP3.
    TooOld,
}

impl DialError {
    /// What it means for a start.
    pub(crate) fn at(self, address: &HostPort) -> StartError {
        let address = address.to_string();
        match self {
            Self::Unreachable(detail) => StartError::Unreachable { address, detail },
            Self::Refused(detail) => StartError::Refused { address, detail },
            Self::TooOld => StartError::TooOld { address },
        }
    }
}

impl Dialer {
    pub(crate) fn to_servers(options: &RedisOptions) -> Result<Self, StartError> {
        let info =
            info(options.username.as_deref(), options.password.as_ref().map(|it| it.expose()))
                .set_protocol(ProtocolVersion::RESP3);
        Ok(Self {
            tls: tls::connector(options.tls.as_ref())?,
            info,
            connect_timeout: options.connect_timeout,
        })
    }

    pub(crate) fn to_sentinels(options: &RedisOptions) -> Result<Self, StartError> {
        let password = options.sentinel_password.as_ref().map(|it| it.expose());
        Ok(Self {
            tls: tls::connector(options.tls.as_ref())?,
            info: info(options.sentinel_username.as_deref(), password),
            connect_timeout: options.connect_timeout,
        })
    }

    /// Connects and greets.
    pub(crate) async fn dial(
        &self,
        address: &HostPort,
        on_push: Option<OnPush>,
    ) -> Result<Line, DialError> {
        let dialling = async {
            let stream = TcpStream::connect((address.host.as_str(), address.port))
                .await
                .map_err(|error| DialError::Unreachable(error.to_string()))?;
            stream.set_nodelay(true).map_err(|error| DialError::Unreachable(error.to_string()))?;
            match &self.tls {
                None => self.greet(stream, on_push).await,
                Some(tls) => {
                    let name = tls::name_of(&address.host)?;
                    let stream = tls
                        .connect(name, stream)
                        .await
                        .map_err(|error| DialError::Unreachable(format!("TLS: {error}")))?;
                    self.greet(stream, on_push).await
                }
            }
        };
        timeout(self.connect_timeout, dialling).await.unwrap_or_else(|_| {
            Err(DialError::Unreachable(format!(
                "no answer in {} ms",
                self.connect_timeout.as_millis()
            )))
        })
    }

    async fn greet(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        on_push: Option<OnPush>,
    ) -> Result<Line, DialError> {
        let death = Arc::new(watch::Sender::new(None));
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        if let Some(on_push) = on_push {
            let death = Arc::clone(&death);
            config = config.set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    die(&death, "the connection was closed");
                } else {
                    on_push(push);
                }
                Ok::<(), ()>(())
            });
        }
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&self.info, stream, config)
                .await
                .map_err(refusal)?;
        let ended = Arc::clone(&death);
        let driver = tokio::spawn(async move {
            driver.await;
            die(&ended, "the connection was closed");
        });
        Ok(Line { connection, driver: driver.abort_handle(), death })
    }
}

impl Line {
    /// Sends commands in one write; an answer each, in order, errors of the server among them.
    ///
    /// # Errors
    /// When the answers were not there within `budget`, or the connection broke: the line is dead then.
    pub(crate) async fn send(
        &self,
        pipeline: &Pipeline,
        budget: Duration,
    ) -> Result<Vec<Value>, String> {
        if let Some(reason) = self.death.borrow().as_ref() {
            return Err(reason.clone());
        }
        // a clone is a handle on the same connection
        let mut connection = self.connection.clone();
        match timeout(budget, connection.send_packed_commands(pipeline, 0, pipeline.len())).await {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) => Err(self.end(&error.to_string())),
            Err(_) => Err(self.end(&format!("no answer in {} ms", budget.as_millis()))),
        }
    }

    /// Ends the connection; the reason that it died of, which may be an earlier one.
    pub(crate) fn end(&self, reason: &str) -> String {
        die(&self.death, reason);
        self.driver.abort();
        self.death.borrow().clone().unwrap_or_default()
    }

    /// Whether it has not died yet.
    pub(crate) fn is_alive(&self) -> bool {
        self.death.borrow().is_none()
    }

    /// Waits until the line is dead; why.
    pub(crate) async fn ended(&self) -> String {
        let mut death = self.death.subscribe();
        match death.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn die(death: &watch::Sender<Option<String>>, reason: &str) {
    death.send_if_modified(|death| {
        let alive = death.is_none();
        if alive {
            *death = Some(reason.to_owned());
        }
        alive
    });
}

fn info(username: Option<&str>, password: Option<&str>) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = username {
        info = info.set_username(username);
    }
    if let Some(password) = password {
        info = info.set_password(password);
    }
    info
}

/// What a greeting that failed means.
fn refusal(error: RedisError) -> DialError {
    let text = error.to_string();
    let refused = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
        || error.kind() == ErrorKind::AuthenticationFailed;
    if refused {
        return DialError::Refused(text);
    }
    let lower = text.to_ascii_lowercase();
    if error.kind() == ErrorKind::RESP3NotSupported
        || error.code() == Some("NOPROTO")
        || lower.contains("unknown command")
    {
        return DialError::TooOld;
    }
    DialError::Unreachable(text)
}

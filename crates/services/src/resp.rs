//! As much of Redis's protocol (RESP2) as is needed to give orders to a server.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::ServiceError;
use crate::error::Context as _;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, such as `OK`.
    Status(String),
    /// An error, such as `ERR unknown command`.
    Error(String),
    /// A number.
    Integer(i64),
    /// A string; what is not UTF-8 in it is replaced.
    Bulk(String),
    /// A list.
    Array(Vec<Self>),
    /// Nothing.
    Nil,
}

impl Reply {
    /// The text of a status, a string or a number.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Status(text) | Self::Bulk(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Error(_) | Self::Array(_) | Self::Nil => None,
        }
    }

    /// The texts in a list.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Array(items) => items.iter().filter_map(Self::text).collect(),
            Self::Status(_) | Self::Error(_) | Self::Integer(_) | Self::Bulk(_) | Self::Nil => {
                Vec::new()
            }
        }
    }
}

/// One connection.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Result<Self, ServiceError> {
        let connected = || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(Self(BufReader::new(stream)))
        };
        connected().to_do(format!("connect to {address}"))
    }

    /// Sends one command and reads its answer; an error that Redis answers is a [`Reply`] too.
    pub(crate) fn ask(&mut self, command: &[&str]) -> Result<Reply, ServiceError> {
        let name = command.first().copied().unwrap_or_default();
        let mut request = format!("*{}\r\n", command.len());
        for part in command {
            request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
        }
        self.0.get_mut().write_all(request.as_bytes()).to_do(format!("send {name}"))?;
        read(&mut self.0).to_do(format!("read what {name} answers"))
    }

    /// As [`ask`](Self::ask); an error that Redis answers is one of ours.
    pub(crate) fn demand(&mut self, command: &[&str]) -> Result<Reply, ServiceError> {
        let reply = self.ask(command)?;
        if let Reply::Error(message) = reply {
            let what = command.first().copied().unwrap_or_default().to_owned();
            return Err(ServiceError::Refused { what, message });
        }
        Ok(reply)
    }
}

fn read(from: &mut impl BufRead) -> std::io::Result<Reply> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end_matches(['\r', '\n']);
    let malformed = || std::io::Error::other(format!("not RESP2: {line}"));
    let mut rest = line.chars();
    let kind = rest.next();
    let rest = rest.as_str();
    let length = || rest.parse::<i64>().map_err(|_| malformed());
    match kind {
        Some('+') => Ok(Reply::Status(rest.to_owned())),
        Some('-') => Ok(Reply::Error(rest.to_owned())),
        Some(':') => length().map(Reply::Integer),
        Some('$') => match usize::try_from(length()?) {
            Err(_) => Ok(Reply::Nil),
            Ok(length) => {
                let mut bytes = vec![0; length];
                from.read_exact(&mut bytes)?;
                from.read_exact(&mut [0; 2])?;
                Ok(Reply::Bulk(String::from_utf8_lossy(&bytes).into_owned()))
            }
        },
        Some('*') => match usize::try_from(length()?) {
            Err(_) => Ok(Reply::Nil),
            Ok(length) => {
                (0..length).map(|_| read(from)).collect::<Result<_, _>>().map(Reply::Array)
            }
        },
        Some(_) | None => Err(malformed()),
    }
}

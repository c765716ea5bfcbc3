//! One Redis server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::ServiceError;
use crate::error::Context as _;
use crate::port;
use crate::program::find;
use crate::redis_config::settings;
use crate::resp::{Connection, Reply};
use crate::supervisor::{Farewell, Supervisor, folder};
use crate::wait::until;

/// Who we are on a server that has [`RedisOptions::users`].
pub const REDIS_SUPERUSER: (&str, &str) = ("throwaway-superuser", "throwaway");

const PACKAGE: &str = "redis-server";
/// How often other ports are tried.
const TRIES: usize = 4;
/// The file of settings, in the server's folder.
const CONFIG: &str = "redis.conf";

/// What a Redis server is to be like; the default keeps nothing on disk and lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Keeps an append-only file, written at once: a restart, even after a kill, loses nothing.
    pub appendonly: bool,
    /// Keeps snapshots, made on order (`SAVE`) and at a [`stop`](Redis::stop).
    pub snapshots: bool,
    /// `maxmemory`, in bytes.
    pub max_memory: Option<u64>,
    /// `maxmemory-policy`, such as `allkeys-lru`.
    pub max_memory_policy: Option<String>,
    /// Access control, a line each as in an ACL file: `user edge on >password ~edge:* &* +@all`.
    /// Without a line for `default`, that one may do everything without a password.
    pub users: Vec<String>,
    /// Listens for TLS too, on a port of its own.
    pub tls: Option<RedisTls>,
    /// Is a replica of this server, which must have the same users.
    pub replica_of: Option<SocketAddr>,
    /// Further lines of `redis.conf`, after all others.
    pub config: Vec<String>,
}

/// Files in PEM for TLS; no certificate is asked of a client.
#[derive(Clone, Debug)]
pub struct RedisTls {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whom it trusts.
    pub authority: PathBuf,
}

/// A Redis server on a free port of 127.0.0.1.
///
/// It ends, and its data is removed, when this is dropped or the process ends.
#[derive(Debug)]
pub struct Redis {
    supervisor: Supervisor,
    options: RedisOptions,
    ports: Ports,
    /// What it is told at each start, besides its settings.
    greeting: &'static [&'static str],
}

/// What a server is besides its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Single,
    Cluster,
    Sentinel,
}

impl Kind {
    /// A sentinel's own timers, in milliseconds, are a second and more, and in no file: those of a server
    /// that is thought down after less would be found down at each failover, before it is asked.
    fn greeting(self) -> &'static [&'static str] {
        match self {
            Self::Single | Self::Cluster => &[],
            Self::Sentinel => &[
                "SENTINEL",
                "DEBUG",
                "ping-period",
                "100",
                "info-period",
                "500",
                "publish-period",
                "500",
                "ask-period",
                "100",
            ],
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) tls: Option<u16>,
    pub(crate) bus: Option<u16>,
}

impl Redis {
    /// Starts a server and waits until it answers; a replica need not have caught up by then.
    ///
    /// # Errors
    ///
    /// When Redis is missing or the server does not start.
    pub fn start(options: RedisOptions) -> Result<Self, ServiceError> {
        Self::start_as(options, Kind::Single)
    }

    pub(crate) fn start_as(options: RedisOptions, kind: Kind) -> Result<Self, ServiceError> {
        let program = find("redis-server", PACKAGE)?;
        let mut outcome = None;
        for _ in 0..TRIES {
            let mut command_line = vec![program.clone().into(), CONFIG.into()];
            command_line.extend((kind == Kind::Sentinel).then(|| "--sentinel".into()));
            let supervisor = Supervisor::new("Redis", folder()?, Farewell::Kill, command_line)?;
            let ports = Ports {
                plain: port::free()?,
                tls: options.tls.as_ref().map(|_| port::free()).transpose()?,
                bus: (kind == Kind::Cluster).then(port::free).transpose()?,
            };
            let server =
                Self { supervisor, options: options.clone(), ports, greeting: kind.greeting() };
            std::fs::write(
                server.supervisor.folder().join(CONFIG),
                settings(&options, ports, kind),
            )
            .to_do("write redis.conf")?;
            match server.start_again() {
                Ok(()) => return Ok(server),
                Err(error @ ServiceError::NotStarted { .. }) => outcome = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(outcome.unwrap_or_else(|| ServiceError::TimedOut { what: "Redis starts".to_owned() }))
    }
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.plain).into()
    }

    /// Where it listens for TLS.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.ports.tls.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Its URL, without a user.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its URL for TLS, without a user.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        self.tls_address().map(|address| format!("rediss://{address}"))
    }

    /// Sends one command over a new connection, as one who may do everything.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or answers with an error.
    pub fn command(&self, command: &[&str]) -> Result<Reply, ServiceError> {
        self.connect()?.demand(command)
    }

    /// A field of `INFO`, such as `run_id` or `master_link_status`.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command), and when there is no such field.
    pub fn info(&self, field: &str) -> Result<String, ServiceError> {
        let text = self.command(&["INFO", "everything"])?.text().unwrap_or_default();
        info_field(&text, field).ok_or_else(|| ServiceError::Refused {
            what: "INFO".to_owned(),
            message: format!("no field {field}"),
        })
    }

    /// Waits until a field of `INFO` has a value, for 30 s at most.
    ///
    /// # Errors
    ///
    /// When it has not by then, for whatever reason.
    pub fn wait_for(&self, field: &str, value: &str) -> Result<(), ServiceError> {
        until(&format!("{field} of {} is {value}", self.address()), || {
            Ok(self.info(field).is_ok_and(|found| found == value).then_some(()))
        })
    }

    /// Ends the server in good order: a snapshot is written if it keeps any.
    ///
    /// # Errors
    ///
    /// When it has not stopped after 30 s.
    pub fn stop(&self) -> Result<(), ServiceError> {
        self.supervisor.stop("TERM")
    }

    /// SIGKILL.
    ///
    /// # Errors
    ///
    /// When the shell that watches over it has ended.
    pub fn kill(&self) -> Result<(), ServiceError> {
        self.supervisor.kill()
    }

    /// Starts it again on the same port, with what it keeps on disk, which is nothing by default; stops
    /// it before that when it runs.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart(&self) -> Result<(), ServiceError> {
        self.stop()?;
        self.start_again()
    }

    /// Freezes it: it keeps its connections and answers nothing.
    ///
    /// # Errors
    ///
    /// When the shell that watches over it has ended.
    pub fn pause(&self) -> Result<(), ServiceError> {
        self.supervisor.pause()
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// When the shell that watches over it has ended.
    pub fn resume(&self) -> Result<(), ServiceError> {
        self.supervisor.resume()
    }

    /// What the server has written about itself.
    #[must_use]
    pub fn log(&self) -> String {
        self.supervisor.log()
    }

    /// A connection as one who may do everything.
    fn connect(&self) -> Result<Connection, ServiceError> {
        let mut connection = Connection::to(self.address())?;
        if !self.options.users.is_empty() {
            let (name, password) = REDIS_SUPERUSER;
            connection.demand(&["AUTH", name, password])?;
        }
        Ok(connection)
    }

    /// Ready when it says its process id: another server on this port would say another one.
    fn start_again(&self) -> Result<(), ServiceError> {
        self.supervisor.start_until(|process| {
            let answer = self.connect().and_then(|mut server| {
                server.demand(&["PING"])?;
                server.demand(&["INFO", "server"])
            });
            let text = answer.ok().and_then(|reply| reply.text()).unwrap_or_default();
            Ok(info_field(&text, "process_id") == Some(process.to_string()))
        })?;
        if self.greeting.is_empty() {
            return Ok(());
        }
        self.command(self.greeting).map(drop)
    }

    pub(crate) fn has_users(&self) -> bool {
        !self.options.users.is_empty()
    }

    pub(crate) fn bus_port(&self) -> Option<u16> {
        self.ports.bus
    }

    /// Moves keys to another node of a cluster that has the same users.
    pub(crate) fn migrate(&self, to: SocketAddr, keys: &[String]) -> Result<(), ServiceError> {
        let (ip, port) = (to.ip().to_string(), to.port().to_string());
        let mut command = vec!["MIGRATE", &ip, &port, "", "0", "10000"];
        if self.has_users() {
            command.extend(["AUTH2", REDIS_SUPERUSER.0, REDIS_SUPERUSER.1]);
        }
        command.push("KEYS");
        command.extend(keys.iter().map(String::as_str));
        self.command(&command).map(drop)
    }
}

fn info_field(text: &str, field: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .map(|value| value.trim_end().to_owned())
}

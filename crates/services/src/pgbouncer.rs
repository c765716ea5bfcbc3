//! PgBouncer in front of a Postgres.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::Context as _;
use crate::port;
use crate::postgres::url;
use crate::program::{User, find};
use crate::supervisor::{Farewell, Supervisor, folder};
use crate::{Postgres, SUPERUSER, SUPERUSER_PASSWORD, ServiceError};

const PACKAGE: &str = "pgbouncer";
const CONFIG: &str = "pgbouncer.ini";
const USERS: &str = "users.txt";
/// How often another port is tried.
const TRIES: usize = 4;
/// How long its greeting may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// So few connections to the server, given out by turns, that what one transaction leaves behind on
/// one is found by another; nothing is reset between them.
const SETTINGS: &str = "\
listen_addr = 127.0.0.1
unix_socket_dir =
auth_type = scram-sha-256
auth_file = users.txt
admin_users = postgres
pool_mode = transaction
default_pool_size = 3
server_round_robin = 1
server_reset_query_always = 0
server_login_retry = 1
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
";

/// A PgBouncer on a free port of 127.0.0.1, which gives a connection to the server for a transaction
/// only: three of them for each pair of user and database.
///
/// It ends when this is dropped or the process ends.
#[derive(Debug)]
pub struct PgBouncer {
    supervisor: Supervisor,
    port: u16,
}

impl PgBouncer {
    /// Starts one in front of a server, for these users with their passwords there, and the superuser.
    ///
    /// # Errors
    ///
    /// When PgBouncer is missing or does not start.
    pub fn start(postgres: &Postgres, users: &[(&str, &str)]) -> Result<Self, ServiceError> {
        Self::start_at(postgres.address(), users)
    }

    /// As [`start`](Self::start), in front of whatever listens at an address.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_at(server: SocketAddr, users: &[(&str, &str)]) -> Result<Self, ServiceError> {
        let program = find("pgbouncer", PACKAGE)?;
        let user = User::unprivileged()?;
        let mut outcome = None;
        for _ in 0..TRIES {
            let (folder, port) = (folder()?, port::free()?);
            let databases = format!("* = host={} port={}", server.ip(), server.port());
            let config =
                format!("[databases]\n{databases}\n[pgbouncer]\nlisten_port = {port}\n{SETTINGS}");
            std::fs::write(folder.path().join(CONFIG), config).to_do("write pgbouncer.ini")?;
            std::fs::write(folder.path().join(USERS), user_list(users)).to_do("write users.txt")?;
            user.own(folder.path())?;
            let command_line = user.command_line(&program, &[CONFIG]);
            let supervisor = Supervisor::new("PgBouncer", folder, Farewell::Kill, command_line)?;
            let bouncer = Self { supervisor, port };
            match bouncer.start_again() {
                Ok(()) => return Ok(bouncer),
                Err(error @ ServiceError::NotStarted { .. }) => outcome = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(outcome
            .unwrap_or_else(|| ServiceError::TimedOut { what: "PgBouncer starts".to_owned() }))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL of a user, with its password, for a database of the server.
    #[must_use]
    pub fn url_for(&self, user: &str, password: &str, database: &str) -> String {
        url(self.address(), user, password, database)
    }

    /// SIGKILL.
    ///
    /// # Errors
    ///
    /// When the shell that watches over it has ended.
    pub fn kill(&self) -> Result<(), ServiceError> {
        self.supervisor.kill()
    }

    /// Starts it again on the same port; ends it before that when it runs.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart(&self) -> Result<(), ServiceError> {
        self.kill()?;
        self.start_again()
    }

    /// Freezes it: it keeps its connections and passes nothing.
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

    /// What it has written about itself.
    #[must_use]
    pub fn log(&self) -> String {
        self.supervisor.log()
    }

    fn start_again(&self) -> Result<(), ServiceError> {
        self.supervisor.start_until(|_| Ok(asks_for_a_password(self.address()).unwrap_or(false)))
    }
}

/// The superuser and others, in PgBouncer's format; a quotation mark is doubled.
fn user_list(users: &[(&str, &str)]) -> String {
    let superuser = (SUPERUSER, SUPERUSER_PASSWORD);
    std::iter::once(&superuser)
        .chain(users)
        .map(|pair| {
            let [name, password] = [pair.0, pair.1].map(|text| text.replace('"', "\"\""));
            format!("\"{name}\" \"{password}\"\n")
        })
        .collect()
}

/// Postgres's protocol, version 3.0: the start of a session as the superuser. Whoever takes sessions
/// answers it with a request for authentication, `R`.
fn asks_for_a_password(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let parameters = format!("user\0{SUPERUSER}\0database\0pgbouncer\0\0");
    let length = u32::try_from(8 + parameters.len()).map_err(std::io::Error::other)?;
    let start = [&length.to_be_bytes()[..], &0x0003_0000_u32.to_be_bytes(), parameters.as_bytes()];
    stream.write_all(&start.concat())?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer == *b"R")
}

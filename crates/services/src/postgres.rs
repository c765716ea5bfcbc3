//! A Postgres server.

use std::io::{Seek as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::ServiceError;
use crate::error::Context as _;
use crate::port;
use crate::program::{User, find, finished, output};
use crate::supervisor::{Farewell, Supervisor, folder};

/// The superuser of every server.
pub const SUPERUSER: &str = "postgres";
/// Its password.
pub const SUPERUSER_PASSWORD: &str = "throwaway";

const SERVER_PACKAGE: &str = "postgresql";
const CLIENT_PACKAGE: &str = "postgresql-client";
/// How often another port is tried.
const TRIES: usize = 4;
/// In the server's folder.
const DATA: &str = "data";

/// Nothing is synced, so that a loss of power may lose all; but each commit is written to the kernel
/// before it is answered, so that a kill loses nothing. What the kernel lends is in the folder too.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
max_connections = 200
password_encryption = 'scram-sha-256'
fsync = off
full_page_writes = off
shared_buffers = '32MB'
dynamic_shared_memory_type = mmap
autovacuum_naptime = '10min'
log_min_messages = warning
timezone = 'UTC'
";

/// A Postgres server with `scram-sha-256` for every role, on a free port of 127.0.0.1.
///
/// It ends, and its data is removed, when this is dropped or the process ends.
#[derive(Debug)]
pub struct Postgres {
    supervisor: Supervisor,
    port: AtomicU16,
    databases: AtomicU64,
}

impl Postgres {
    /// Makes a new, empty server and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// When a program is missing or the server does not start.
    pub fn start() -> Result<Self, ServiceError> {
        let postgres = find("postgres", SERVER_PACKAGE)?;
        let user = User::unprivileged()?;
        let folder = folder()?;
        let data = folder.path().join(DATA);
        user.own(folder.path())?;
        initialise(&user, folder.path())?;
        let command_line = user.command_line(&postgres, &["-D", DATA]);
        let supervisor = Supervisor::new("Postgres", folder, Farewell::Quit, command_line)?;
        let server = Self { supervisor, port: AtomicU16::new(0), databases: AtomicU64::new(0) };
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            let port = port::free()?;
            server.port.store(port, Ordering::Relaxed);
            let settings = format!(
                "{SETTINGS}port = {port}\nunix_socket_directories = '{}'\n",
                server.supervisor.folder().display()
            );
            std::fs::write(data.join("postgresql.auto.conf"), settings)
                .to_do("write Postgres's settings")?;
            outcome = server.start_again();
            if !matches!(outcome, Err(ServiceError::NotStarted { .. })) {
                break;
            }
        }
        outcome.map(|()| server)
    }

    /// The server that all tests of one process share; it is started at the first call.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), the same one each time.
    pub fn shared() -> Result<&'static Self, &'static ServiceError> {
        static SHARED: OnceLock<Result<Postgres, ServiceError>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.load(Ordering::Relaxed)).into()
    }

    /// The URL of the superuser's own database.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for(SUPERUSER, SUPERUSER_PASSWORD, SUPERUSER)
    }

    /// The URL of a role, with its password, for a database.
    #[must_use]
    pub fn url_for(&self, user: &str, password: &str, database: &str) -> String {
        url(self.address(), user, password, database)
    }

    /// Makes an empty database and says its URL, as the superuser.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub fn create_database(&self, name: &str) -> Result<String, ServiceError> {
        let quoted = name.replace('"', "\"\"");
        self.psql(&self.url(), &format!("CREATE DATABASE \"{quoted}\""))?;
        Ok(self.url_for(SUPERUSER, SUPERUSER_PASSWORD, name))
    }

    /// Makes an empty database under a name that this server has not had, and says its URL.
    ///
    /// # Errors
    ///
    /// As [`create_database`](Self::create_database).
    pub fn fresh_database(&self) -> Result<String, ServiceError> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        self.create_database(&format!("fresh_{number}"))
    }

    /// What `psql` prints for statements, each in its own transaction unless they say otherwise: rows
    /// as lines, columns divided by `|`. The first error ends it.
    ///
    /// # Errors
    ///
    /// What `psql` complains of.
    pub fn psql(&self, database_url: &str, sql: &str) -> Result<String, ServiceError> {
        let mut script = tempfile::tempfile().to_do("make a file for SQL")?;
        script.write_all(sql.as_bytes()).to_do("write SQL")?;
        script.rewind().to_do("write SQL")?;
        let output = Command::new(find("psql", CLIENT_PACKAGE)?)
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database_url, "-f", "-"])
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::from(script))
            .output()
            .to_do("start psql")?;
        finished(&output, "psql").map(|text| text.trim_end().to_owned())
    }

    /// What `pg_dump` prints of a database: everything in it, as SQL.
    ///
    /// # Errors
    ///
    /// What `pg_dump` complains of.
    pub fn pg_dump(&self, database_url: &str) -> Result<String, ServiceError> {
        let program = find("pg_dump", CLIENT_PACKAGE)?;
        output(Command::new(program).args(["-d", database_url]), "pg_dump")
    }

    /// Ends connections and server in good order, and keeps the data.
    ///
    /// # Errors
    ///
    /// When it has not stopped after 30 s.
    pub fn stop(&self) -> Result<(), ServiceError> {
        self.supervisor.stop("INT")
    }

    /// SIGKILL for the whole server; what it has committed stays.
    ///
    /// # Errors
    ///
    /// When the shell that watches over it has ended.
    pub fn kill(&self) -> Result<(), ServiceError> {
        self.supervisor.kill()
    }

    /// Starts it again, on the same port and data, after [`stop`](Self::stop) or [`kill`](Self::kill);
    /// stops it before that when it runs.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart(&self) -> Result<(), ServiceError> {
        self.stop()?;
        self.start_again()
    }

    /// Freezes the whole server: it keeps its connections and answers nothing.
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

    /// Ready is what the server says in `postmaster.pid`: its process id first, `ready` last. It is
    /// this server that says so, whoever else may listen on the port.
    fn start_again(&self) -> Result<(), ServiceError> {
        let file: PathBuf = self.supervisor.folder().join(DATA).join("postmaster.pid");
        self.supervisor.start_until(|process| {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let own = text.lines().next().is_some_and(|line| line.trim() == process.to_string());
            Ok(own && text.lines().last().is_some_and(|line| line.trim() == "ready"))
        })
    }
}

/// A URL with user and password in it.
pub(crate) fn url(address: SocketAddr, user: &str, password: &str, database: &str) -> String {
    let [user, password, database] = [user, password, database].map(percent_encoded);
    format!("postgres://{user}:{password}@{address}/{database}")
}

/// RFC 3986, section 2.1: all but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Makes the data folder; the password goes by a file.
fn initialise(user: &User, folder: &std::path::Path) -> Result<(), ServiceError> {
    let initdb = find("initdb", SERVER_PACKAGE)?;
    let password = folder.join("password");
    std::fs::write(&password, SUPERUSER_PASSWORD).to_do("write a password file")?;
    user.own(&password)?;
    let arguments = [
        "-D",
        DATA,
        "-U",
        SUPERUSER,
        "--auth=scram-sha-256",
        "--pwfile=password",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
    ];
    let line = user.command_line(&initdb, &arguments);
    let Some((program, arguments)) = line.split_first() else { return Ok(()) };
    output(Command::new(program).args(arguments).current_dir(folder), "initdb").map(drop)
}

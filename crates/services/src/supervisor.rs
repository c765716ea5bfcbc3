//! A server that ends when we do.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::ServiceError;
use crate::error::Context as _;
use crate::wait::until;

const SCRIPT: &str = include_str!("supervisor.sh");
/// How much of a log an error shows.
const LAST_LINES: usize = 8;

/// A server's folder, and a shell that starts and ends the server there on our order. When the pipe
/// to the shell closes, it ends the server and removes the folder; the kernel closes it, if not we.
pub(crate) struct Supervisor {
    what: &'static str,
    shell: Mutex<Shell>,
    /// Removed by the shell; here for the case that it cannot be started.
    folder: TempDir,
}

struct Shell {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// How a server is ended for good.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Farewell {
    /// SIGKILL, to it and its children.
    Kill,
    /// SIGQUIT, which has Postgres return what it holds of the kernel; SIGKILL if that does not help.
    Quit,
}

impl Supervisor {
    /// Starts the shell, not yet the server.
    pub(crate) fn new(
        what: &'static str,
        folder: TempDir,
        farewell: Farewell,
        command_line: Vec<OsString>,
    ) -> Result<Self, ServiceError> {
        let farewell = match farewell {
            Farewell::Kill => "KILL",
            Farewell::Quit => "QUIT",
        };
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "supervisor"])
            .arg(folder.path())
            .arg(farewell)
            .args(command_line)
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // what a terminal sends to our group is not for servers
            .process_group(0)
            .spawn()
            .to_do("start sh")?;
        let orders = child.stdin.take();
        let Some(answers) = child.stdout.take() else { return Err(silent(what)) };
        let shell = Mutex::new(Shell { child, orders, answers: BufReader::new(answers) });
        Ok(Self { what, shell, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the server, unless it runs. Says its process id, if it has not ended at once.
    pub(crate) fn start(&self) -> Result<Option<u32>, ServiceError> {
        self.order("start")
    }

    /// The server's process id while it runs.
    pub(crate) fn process(&self) -> Result<Option<u32>, ServiceError> {
        self.order("look")
    }

    /// Freezes the server and its children.
    pub(crate) fn pause(&self) -> Result<(), ServiceError> {
        self.order("family STOP").map(drop)
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) -> Result<(), ServiceError> {
        self.order("family CONT").map(drop)
    }

    /// SIGKILL for the server and its children; it is gone when this returns.
    pub(crate) fn kill(&self) -> Result<(), ServiceError> {
        self.order("kill").map(drop)
    }

    /// Asks the server to end by a signal, and waits until it has.
    pub(crate) fn stop(&self, signal: &str) -> Result<(), ServiceError> {
        self.resume()?;
        self.order(&format!("signal {signal}"))?;
        until(&format!("{} has stopped", self.what), || Ok(self.process()?.is_none().then_some(())))
    }

    /// Starts the server and waits until it is ready; `ready` is told its process id.
    pub(crate) fn start_until(
        &self,
        ready: impl Fn(u32) -> Result<bool, ServiceError>,
    ) -> Result<(), ServiceError> {
        self.start()?;
        let ready = until(&format!("{} is ready", self.what), || {
            let Some(process) = self.process()? else {
                return Err(ServiceError::NotStarted { what: self.what, log: self.last_of_log() });
            };
            Ok(ready(process)?.then_some(()))
        });
        ready.map_err(|error| {
            let ServiceError::TimedOut { what } = error else { return error };
            ServiceError::TimedOut { what: format!("{what}; its log ends: {}", self.last_of_log()) }
        })
    }

    /// What the server has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(self.folder().join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn last_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        last.join(" | ")
    }

    fn order(&self, order: &str) -> Result<Option<u32>, ServiceError> {
        let mut shell = self.shell();
        let Some(orders) = &mut shell.orders else { return Err(silent(self.what)) };
        writeln!(orders, "{order}").to_do(format!("order {order} for {}", self.what))?;
        let mut answer = String::new();
        shell.answers.read_line(&mut answer).to_do(format!("hear of {}", self.what))?;
        match answer.trim().split_once(' ') {
            Some(("up", process)) => process.parse().map(Some).map_err(|_| silent(self.what)),
            None if answer.trim() == "down" => Ok(None),
            Some(_) | None => Err(silent(self.what)),
        }
    }

    fn shell(&self) -> MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn silent(what: &'static str) -> ServiceError {
    ServiceError::Refused {
        what: what.to_owned(),
        message: "the shell that watches over it has ended".to_owned(),
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let mut shell = self.shell();
        drop(shell.orders.take());
        // an error here is that it has been waited for
        let _gone = shell.child.wait();
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("what", &self.what)
            .field("folder", &self.folder)
            .finish()
    }
}

/// A folder of its own for a server.
pub(crate) fn folder() -> Result<TempDir, ServiceError> {
    tempfile::Builder::new().prefix("edgeward-").tempdir().to_do("make a temporary folder")
}

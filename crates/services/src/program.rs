//! Where the programs are, and as whom they run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::ServiceError;
use crate::error::Context as _;

/// A program by name: on the PATH, or where Debian puts what is for administrators and Postgres.
pub(crate) fn find(program: &'static str, package: &'static str) -> Result<PathBuf, ServiceError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .chain(postgres_folders())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or(ServiceError::Missing { program, package })
}

/// The newest first.
fn postgres_folders() -> Vec<PathBuf> {
    let version = |folder: &PathBuf| -> u32 {
        folder.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
    };
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    folders.sort_by_key(|folder| std::cmp::Reverse(version(folder)));
    folders.into_iter().map(|folder| folder.join("bin")).collect()
}

/// Whom the servers run as that refuse to run as root.
#[derive(Clone, Debug)]
pub(crate) enum User {
    /// Whoever we are.
    Same,
    /// We are root: this user, and its main group.
    Other { name: &'static str, group: String, setpriv: PathBuf },
}

impl User {
    /// The user of this process, unless that is root: then `postgres` or, where there is none, `nobody`.
    pub(crate) fn unprivileged() -> Result<Self, ServiceError> {
        let id = |arguments: &[&str]| output(Command::new("id").args(arguments), "id");
        if id(&["-u"])?.trim() != "0" {
            return Ok(Self::Same);
        }
        let setpriv = find("setpriv", "util-linux")?;
        let name = if id(&["-u", "postgres"]).is_ok() { "postgres" } else { "nobody" };
        let group = id(&["-g", name])?.trim().to_owned();
        Ok(Self::Other { name, group, setpriv })
    }

    /// The command line that runs a program as this user; it keeps its process id.
    pub(crate) fn command_line(&self, program: &Path, arguments: &[&str]) -> Vec<OsString> {
        let mut line: Vec<OsString> = match self {
            Self::Same => Vec::new(),
            Self::Other { name, group, setpriv } => vec![
                setpriv.into(),
                "--reuid".into(),
                name.into(),
                "--regid".into(),
                group.into(),
                "--clear-groups".into(),
            ],
        };
        line.push(program.into());
        line.extend(arguments.iter().map(OsString::from));
        line
    }

    /// Gives a folder, and what is in it, to this user.
    pub(crate) fn own(&self, folder: &Path) -> Result<(), ServiceError> {
        let Self::Other { name, group, .. } = self else { return Ok(()) };
        let owner = format!("{name}:{group}");
        output(Command::new("chown").arg("-R").arg(owner).arg(folder), "chown").map(drop)
    }
}

/// What a program prints; its complaint, when it fails, is the error.
pub(crate) fn output(command: &mut Command, what: &str) -> Result<String, ServiceError> {
    let output = command.stdin(Stdio::null()).output().to_do(format!("start {what}"))?;
    finished(&output, what)
}

/// What a program has printed, if it has not failed.
pub(crate) fn finished(output: &std::process::Output, what: &str) -> Result<String, ServiceError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ServiceError::Refused { what: what.to_owned(), message })
}

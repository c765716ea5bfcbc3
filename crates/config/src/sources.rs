//! Where raw settings come from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use zeroize::Zeroizing;

use crate::{Faults, Finding};

/// Prefixes of the environment variables that are ours.
const PREFIXES: [&str; 3] = ["EDGE_", "AGENT_", "OWNER_"];
/// Names under one of our prefixes that belong to a command of its own and are left alone.
const RESERVED: &str = "AGENT_GATE_";

/// Raw settings. Keys of `env` and `flags` are names such as `EDGE_LISTEN`; `env` may hold any other variable as well.
#[derive(Clone, Default)]
pub struct Sources {
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The settings file: its path and its text.
    pub file: Option<(PathBuf, String)>,
    /// What flags say.
    pub flags: BTreeMap<String, String>,
}

impl Sources {
    /// The process's environment, the file that `EDGE_CONFIG` names in it or in `flags`, and the flags.
    ///
    /// # Errors
    /// If the file cannot be read as UTF-8 text, or one of our variables is not UTF-8.
    pub fn from_process(flags: BTreeMap<String, String>) -> Result<Self, Faults> {
        let mut env = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, value) in std::env::vars_os() {
            if let Some((name, value)) = readable(name, value, &mut faults) {
                env.insert(name, value);
            }
        }
        match Self::gather(env, flags, &LocalFiles) {
            Ok(sources) if faults.is_empty() => Ok(sources),
            Ok(_) => Err(Faults::new(faults)),
            Err(more) => {
                faults.extend_from_slice(more.findings());
                Err(Faults::new(faults))
            }
        }
    }

    /// An environment, the file that `EDGE_CONFIG` names in it or in `flags`, and the flags.
    ///
    /// # Errors
    /// If the file cannot be read as UTF-8 text.
    pub fn gather(
        env: BTreeMap<String, String>,
        flags: BTreeMap<String, String>,
        files: &dyn Files,
    ) -> Result<Self, Faults> {
        let file = match flags.get("EDGE_CONFIG").or_else(|| env.get("EDGE_CONFIG")) {
            Some(path) => Some(settings_file(path, files)?),
            None => None,
        };
        Ok(Self { env, file, flags })
    }

    /// The variables that claim to be settings.
    pub(crate) fn own_variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| is_ours(name))
    }
}

/// Names only: values may be secret.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("env", &self.own_variables().map(|(name, _)| name).collect::<Vec<_>>())
            .field("file", &self.file.as_ref().map(|(path, _)| path))
            .field("flags", &self.flags.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// How settings reach files: mounted secrets, and whether a file that is named is there.
pub trait Files {
    /// The whole file.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether it is a file that can be opened.
    ///
    /// # Errors
    /// If it is not.
    fn probe(&self, path: &Path) -> io::Result<()>;
}

/// The files of this machine; relative paths are below the working directory.
#[derive(Clone, Copy, Debug)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn probe(&self, path: &Path) -> io::Result<()> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Ok(())
    }
}

/// The text of a secret's file, without the line break at its end.
pub(crate) fn secret_text(path: &Path, files: &dyn Files) -> Result<Zeroizing<String>, String> {
    let bytes = files.read(path).map_err(|error| error.kind().to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    let mut text = Zeroizing::new(text);
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn is_ours(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !name.starts_with(RESERVED)
}

fn readable(
    name: OsString,
    value: OsString,
    faults: &mut Vec<Finding>,
) -> Option<(String, String)> {
    let name = name.into_string().ok()?;
    match value.into_string() {
        Ok(value) => Some((name, value)),
        Err(_) => {
            if is_ours(&name) {
                faults.push(Finding::error(
                    name,
                    "bytes that are not UTF-8 (environment)",
                    "UTF-8 text",
                    "Write it as UTF-8.",
                ));
            }
            None
        }
    }
}

fn settings_file(path: &str, files: &dyn Files) -> Result<(PathBuf, String), Faults> {
    let fault = |what: String| {
        Faults::new(vec![Finding::error(
            "EDGE_CONFIG",
            format!("{path:?}: {what}"),
            "a TOML file that can be read",
            "Name the settings file, or leave EDGE_CONFIG out.",
        )])
    };
    let bytes = files.read(Path::new(path)).map_err(|error| fault(error.kind().to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| fault("not UTF-8 text".to_owned()))?;
    Ok((PathBuf::from(path), text))
}

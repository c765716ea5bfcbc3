//! Files that only their owner may read, replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::{Error, Result, entropy};

/// More than any file of this crate needs.
const MAX_LEN: u64 = 1024 * 1024;

/// Reads a file that nobody but its owner may read.
///
/// # Errors
/// When it cannot be read, is no plain file, is over 1 MiB, or is open to group or others.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>> {
    let file = File::open(path).map_err(|error| Error::local(path, "cannot be opened", error))?;
    // Of the opened file, not of the path: what is checked is what is read.
    let metadata =
        file.metadata().map_err(|error| Error::local(path, "cannot be examined", error))?;
    if !metadata.is_file() {
        return Err(Error::unfit(path, "not a plain file"));
    }
    refuse_if_open_to_others(path, &metadata)?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_LEN)
        .read_to_string(&mut text)
        .map_err(|error| Error::local(path, "cannot be read", error))?;
    Ok(text)
}

#[cfg(unix)]
fn refuse_if_open_to_others(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::unfit(
            path,
            format!(
                "group or others may use it (mode {mode:04o}); chmod 600 it, and renew what it holds if others could read it"
            ),
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_if_open_to_others(_: &Path, _: &fs::Metadata) -> Result<()> {
    Ok(())
}

/// A new file beside its place, mode 0600, not yet visible under its name. Dropped, it is removed.
///
/// Opened ahead, it proves that the folder can be written before something that cannot be
/// repeated is done.
#[derive(Debug)]
pub(crate) struct Pending {
    file: File,
    beside: PathBuf,
    place: PathBuf,
}

impl Pending {
    /// Opens the new file.
    pub(crate) fn open(place: &Path) -> Result<Self> {
        let suffix = URL_SAFE_NO_PAD.encode(entropy::bytes::<9>()?);
        let name = place
            .file_name()
            .ok_or_else(|| Error::unfit(place, "not the name of a file"))?
            .to_string_lossy();
        let beside = place.with_file_name(format!(".{name}.{suffix}.new"));
        let file = private()
            .write(true)
            .create_new(true)
            .open(&beside)
            .map_err(|error| Error::local(place, "cannot be written", error))?;
        Ok(Self { file, beside, place: place.to_owned() })
    }

    /// Writes, syncs, and replaces whatever stands in its place.
    pub(crate) fn replace(self, text: &str) -> Result<()> {
        self.publish(text, |beside, place| fs::rename(beside, place))
    }

    /// Writes, syncs, and takes its place; fails if something stands there.
    pub(crate) fn create(self, text: &str) -> Result<()> {
        // A hard link never replaces, where a rename would.
        self.publish(text, |beside, place| fs::hard_link(beside, place))
    }

    fn publish(
        mut self,
        text: &str,
        publish: impl FnOnce(&Path, &Path) -> io::Result<()>,
    ) -> Result<()> {
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_all())
            .and_then(|()| publish(&self.beside, &self.place))
            .and_then(|()| sync_folder(&self.place));
        written.map_err(|error| Error::local(&self.place, "cannot be written", error))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Holds the lock of `path` (a file beside it) while `act` runs, against other processes.
pub(crate) fn locked<T>(path: &Path, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let beside = path.with_extension("lock");
    let lock = private()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&beside)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| Error::local(&beside, "cannot be locked", error))?;
    let done = act();
    drop(lock);
    done
}

fn private() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "modes exist on Unix only"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes the new name itself durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_0600_replaced_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        Pending::open(&path).unwrap().replace("one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let before = File::open(&path).unwrap();
        Pending::open(&path).unwrap().replace("two").unwrap();
        // Whoever had opened the old one still reads the old one, whole: it was never written to.
        assert_eq!(io::read_to_string(before).unwrap(), "one");
        assert_eq!(*read(&path).unwrap(), "two");
        drop(Pending::open(&path).unwrap());
        assert_eq!(*read(&path).unwrap(), "two");
        assert_eq!(names(folder.path()), ["agent.json"]);
    }

    #[test]
    fn creating_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.key");
        Pending::open(&path).unwrap().create("mine").unwrap();
        assert!(Pending::open(&path).unwrap().create("another").is_err());
        assert_eq!(*read(&path).unwrap(), "mine");
        assert_eq!(names(folder.path()), ["device.key"]);
    }

    #[test]
    fn a_file_open_to_group_or_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        Pending::open(&path).unwrap().replace("x").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o610, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = read(&path).unwrap_err().to_string();
            assert!(refused.contains("group or others"), "{mode:o}: {refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(*read(&path).unwrap(), "x");
        assert!(read(folder.path()).is_err(), "a folder");
    }
}

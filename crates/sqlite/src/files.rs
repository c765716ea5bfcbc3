//! The database's file, its folder and its lock.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use edgeward_store::StoreError;

/// The folder made where it is missing, an empty file where there is none, and the one path by which
/// the file is known: behind links, so that a second name does not open it a second time.
pub(crate) fn settle(database: &Path) -> Result<PathBuf, StoreError> {
    let fault = |error: io::Error| unusable(database, &error);
    create_folder(database).map_err(fault)?;
    create_private(database)?;
    database.canonicalize().map_err(fault)
}

/// The lock on `<file>.lock`. The system releases it when the process ends, however it ends.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Takes the lock of the database at this path, which [`settle`] answered.
    pub(crate) fn take(database: &Path) -> Result<Self, StoreError> {
        let path = lock_path(database);
        let fault = |error: io::Error| unusable(&path, &error);
        let file = private().open(&path).map_err(fault)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Unavailable(format!(
                "{} is open in another process: {} is locked; stop that process, or give this one \
                 a database of its own",
                database.display(),
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(fault(error)),
        }
    }
}

/// Makes an empty file for the database where there is none, and lets nobody else read it. SQLite
/// gives its other files the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let fault = |error: io::Error| unusable(path, &error);
    let file = private().open(path).map_err(fault)?;
    if !file.metadata().map_err(fault)?.is_file() {
        return Err(StoreError::Unavailable(format!("{} is not a file", path.display())));
    }
    #[cfg(unix)]
    file.set_permissions(Permissions::from_mode(0o600)).map_err(fault)?;
    Ok(())
}

/// A new file is only there after a power cut if its folder was synced too.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = folder_of(path);
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unusable(folder, &error))?;
    Ok(())
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    builder.mode(0o700);
    builder.recursive(true).create(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    options.mode(0o600);
    options
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

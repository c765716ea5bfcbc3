//! The Unix socket: bound where only its owner reaches, and taken away with the listener.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use edgeward_keys::private_file;
use tokio::net::{UnixListener, UnixStream};

use crate::error::BindError;

/// The listening socket and its file, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: another process's file under the same name is not ours to remove.
    identity: (u64, u64),
}

impl AdminSocket {
    /// Binds, with a folder of mode 0700 and a socket of mode 0600. A socket that nobody accepts on is
    /// replaced.
    ///
    /// # Errors
    /// As [`BindError`] says; nothing of others is removed then.
    pub(crate) async fn bind(path: &Path, own_uid: u32) -> Result<Self, BindError> {
        make_private_folder(path, own_uid)?;
        // Of two starts at once one would remove what the other has just bound.
        let _binding = lock_beside(path)?;
        remove_if_stale(path).await?;
        let fault = |error: io::Error| BindError::socket(path, &error);
        let listener = UnixListener::bind(path).map_err(fault)?;
        // Until here the folder's mode keeps everybody else away.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(fault)?;
        let identity = identity(path).map_err(fault)?;
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    /// Where it is bound.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, and the user at its other end.
    ///
    /// # Errors
    /// When the system refuses, or cannot tell who that is.
    pub(crate) async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        let (stream, _) = self.listener.accept().await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, uid))
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the admin socket stays behind");
        }
    }
}

/// The user that this process acts as, as the system tells it of a socket's peer.
///
/// # Errors
/// When no pair of sockets can be made.
pub(crate) fn own_uid() -> io::Result<u32> {
    let (one, _other) = UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

fn make_private_folder(path: &Path, own_uid: u32) -> Result<(), BindError> {
    let folder = private_file::folder_of(path);
    let fault = |error: io::Error| BindError::socket(path, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
    let metadata = fs::metadata(folder).map_err(fault)?;
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 || (uid != own_uid && uid != 0) {
        // One that was there before is somebody's: not ours to change.
        return Err(BindError::FolderExposed { folder: folder.to_owned(), mode, uid });
    }
    Ok(())
}

fn lock_beside(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|error| BindError::socket(path, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(BindError::Starting { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(BindError::socket(path, &error)),
    }
}

/// Removes what a killed process left: a socket that refuses connections. Anything else stays.
async fn remove_if_stale(path: &Path) -> Result<(), BindError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::socket(path, &error)),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(BindError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| BindError::socket(path, &error))
        }
        // Full, or not ours to ask: somebody may be there.
        Err(error) => Err(BindError::socket(path, &error)),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

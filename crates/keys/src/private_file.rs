//! Files that hold a secret: made once, whole or not at all, readable by their owner alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::encoding::hex;

/// Writes `content` beside `path` and links it there, so that the name never stands for half a
/// secret; a file that came to be meanwhile stays. `random` names the draft.
///
/// # Errors
/// The system's, when the file or its draft cannot be written, synced or removed.
pub fn create(path: &Path, content: &[u8], random: [u8; 8]) -> io::Result<()> {
    let draft = draft_beside(path, &hex(&random));
    let made = write_private(&draft, content)
        .and_then(|()| match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })
        .and_then(|()| sync_folder_of(path));
    let removed = std::fs::remove_file(&draft);
    made.and(removed)
}

/// The folder that a path is in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

fn draft_beside(path: &Path, random: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{random}.draft"));
    path.with_file_name(name)
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Without this the new name could be lost with the power, and all that hangs on the secret with it.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_alone_and_the_first_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, b"first", [1; 8]).unwrap();
        create(&path, b"second", [2; 8]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        let names = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "no draft stays");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
    }

    #[test]
    fn nothing_is_left_where_it_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("secret");
        assert!(create(&path, b"x", [1; 8]).is_err());
        assert_eq!(folder_of(Path::new("secret")), Path::new("."));
    }
}

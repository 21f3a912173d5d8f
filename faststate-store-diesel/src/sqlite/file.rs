//! Checks that the file at a path is still the one that is open.
//!
//! SQLite continues to use a file that was deleted or replaced, and the saves in it are lost when the process
//! ends. Checking a path takes about 1 us.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use crate::error::BackendError;

/// The device and inode of a file, which distinguish it from another file at the same path. A constant on
/// systems other than Unix, which do not allow deleting the file while SQLite has it open.
type FileIdentity = (u64, u64);

/// The file that all connections of a store have open.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    path: Arc<Path>,
    /// The write-ahead log. SQLite puts it beside the file to which a symbolic link points.
    log: Arc<Path>,
    /// The identity of the file that the first connection opened.
    opened: Arc<OnceLock<FileIdentity>>,
}

impl DatabaseFile {
    /// The file must exist if its path is a symbolic link.
    pub(super) fn new(path: PathBuf) -> Self {
        let mut log = path.canonicalize().unwrap_or_else(|_| path.clone()).into_os_string();
        log.push("-wal");
        Self { path: path.into(), log: PathBuf::from(log).into(), opened: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Records that a connection has opened the file. Fails if an earlier connection opened a different file.
    pub(super) fn was_opened(&self) -> Result<(), BackendError> {
        let found = identity(&self.path).ok_or_else(|| self.replaced())?;
        if *self.opened.get_or_init(|| found) == found { Ok(()) } else { Err(self.replaced()) }
    }

    /// Fails if the file at the path is not the one that was opened. Succeeds if none was opened yet.
    pub(super) fn check(&self) -> Result<(), BackendError> {
        let Some(opened) = self.opened.get() else { return Ok(()) };
        if identity(&self.path).as_ref() == Some(opened) { Ok(()) } else { Err(self.replaced()) }
    }

    fn replaced(&self) -> BackendError {
        BackendError::Replaced(self.path.to_path_buf())
    }
}

/// The write-ahead log of the writing connection, once a check has found it.
///
/// SQLite keeps the log as long as the connection is open. If it is missing or different at a later check,
/// another program has deleted or replaced it.
#[derive(Debug, Default)]
pub(super) struct WalFile(Option<FileIdentity>);

impl WalFile {
    /// Fails if the log is not the one that an earlier check found.
    pub(super) fn check(&mut self, file: &DatabaseFile) -> Result<(), BackendError> {
        let found = identity(&file.log);
        if self.0.is_some() && self.0 != found {
            return Err(BackendError::Replaced(file.log.to_path_buf()));
        }
        self.0 = found;
        Ok(())
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<FileIdentity> {
    Some((0, 0))
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn missing_log_is_noticed_behind_a_symbolic_link() {
        let folder = std::env::temp_dir().join(format!("faststate-link-{}", std::process::id()));
        fs::create_dir_all(folder.join("data")).unwrap();
        let (target, log) = (folder.join("data/real.db"), folder.join("data/real.db-wal"));
        let link = folder.join("link.db");
        fs::write(&target, "").unwrap();
        fs::write(&log, "").unwrap();
        symlink(&target, &link).unwrap();
        let (file, mut wal) = (DatabaseFile::new(link), WalFile::default());
        wal.check(&file).unwrap();
        fs::remove_file(&log).unwrap();
        assert!(wal.check(&file).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}

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
    /// The identity of the file that the first connection opened.
    opened: Arc<OnceLock<FileIdentity>>,
}

impl DatabaseFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: path.into(), opened: Arc::default() }
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
        let mut log = file.path.as_os_str().to_owned();
        log.push("-wal");
        let found = identity(Path::new(&log));
        if self.0.is_some() && self.0 != found {
            return Err(BackendError::Replaced(log.into()));
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

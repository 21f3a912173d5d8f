//! Whether the file at a path still is the one that is open.
//!
//! SQLite goes on with a file that was deleted or replaced, and what it saves there is lost with the process. A look at
//! the path costs about a microsecond.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use crate::error::Error;

/// What tells a file from another one at the same path: device and inode. Always the same where a system knows no such
/// thing, and does not let an open file be deleted.
type Identity = (u64, u64);

/// The file that all connections of a store lead to.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    path: Arc<Path>,
    opened: Arc<OnceLock<Identity>>,
}

impl DatabaseFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: path.into(), opened: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that the file was opened. Fails where another one was opened before.
    pub(super) fn was_opened(&self) -> Result<(), Error> {
        let found = identity(&self.path).ok_or_else(|| self.replaced())?;
        if *self.opened.get_or_init(|| found) == found { Ok(()) } else { Err(self.replaced()) }
    }

    /// Fails if the file at the path is not the one that was opened.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Some(opened) = self.opened.get() else { return Ok(()) };
        if identity(&self.path).as_ref() == Some(opened) { Ok(()) } else { Err(self.replaced()) }
    }

    fn replaced(&self) -> Error {
        Error::Replaced(self.path.to_path_buf())
    }
}

/// The log beside the file, as one connection that writes has found it. It stays for as long as the connection does.
#[derive(Debug, Default)]
pub(super) struct Log(Option<Identity>);

impl Log {
    /// Fails if the log is not the one that was found before.
    pub(super) fn check(&mut self, file: &DatabaseFile) -> Result<(), Error> {
        let mut log = file.path.as_os_str().to_owned();
        log.push("-wal");
        let found = identity(Path::new(&log));
        if self.0.is_some() && self.0 != found {
            return Err(Error::Replaced(log.into()));
        }
        self.0 = found;
        Ok(())
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    Some((0, 0))
}

//! A disk that is soon full.

use std::{path::Path, process::Command};

use super::Folder;

/// A disk of its own, in memory; needs root, who may mount it.
#[derive(Debug)]
pub struct Disk {
    folder: Folder,
}

impl Disk {
    /// How much it holds.
    pub const BYTES: usize = 64 << 20;

    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let folder = Folder::new("disk");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={}", Self::BYTES), "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "a small disk needs root, to be mounted");
        Self { folder }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the store's threads may not have closed the file yet.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

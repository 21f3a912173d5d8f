//! A small file system that fills up quickly.

use std::{path::Path, process::Command};

use super::Folder;

/// A tmpfs mount of limited size; requires root.
#[derive(Debug)]
pub struct Disk {
    folder: Folder,
}

impl Disk {
    /// The capacity, in bytes.
    pub const BYTES: usize = 64 << 20;

    /// Mounts an empty file system.
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

    /// The mount point.
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
        // Unmounts lazily, because the store's threads may still have the file open.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

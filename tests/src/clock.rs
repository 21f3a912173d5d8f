//! Programs with a shifted clock.

use std::{fs, path::PathBuf, process::Command, sync::Arc};

use crate::servers::Folder;

/// The name of the file with a clock's offset.
const FILE: &str = "offset";

/// Runs the program with its wall clock shifted by `offset` (`-92d`, `+1h`). Measured durations stay correct.
pub fn shift_clock(command: &mut Command, offset: &str) {
    command.env("LD_PRELOAD", faketime()).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

/// A wall clock that a test moves while programs run on it. Measured durations stay correct.
#[derive(Clone, Debug)]
pub struct WallClock(Arc<Folder>);

impl WallClock {
    /// A clock with the right time.
    #[must_use]
    pub fn new() -> Self {
        let clock = Self(Arc::new(Folder::new("clock")));
        clock.shift("+0");
        clock
    }

    /// Makes a program that is about to start run on this clock.
    pub fn attach(&self, command: &mut Command) {
        // The allocator of Redis reads the clock before `libfaketime` is ready. That of the C library does not.
        let libraries = format!("{}:libc.so.6", faketime().display());
        command
            .env("LD_PRELOAD", libraries)
            .env("FAKETIME_TIMESTAMP_FILE", self.0.join(FILE))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Sets the offset from the right time (`-1h`, `+0`) at once, for all programs on this clock.
    pub fn shift(&self, offset: &str) {
        // A program never reads half of the file.
        let new = self.0.join("new");
        fs::write(&new, format!("{offset}\n")).expect("a folder of ours takes a file");
        fs::rename(new, self.0.join(FILE)).expect("a file of ours can be renamed");
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    files.find(|file| file.is_file()).expect("`libfaketime.so.1` is missing: apt-get install libfaketime")
}

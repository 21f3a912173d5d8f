//! Programs with a shifted clock.

use std::{path::PathBuf, process::Command};

/// Runs the program with its wall clock shifted by `offset` (`-92d`, `+1h`). Measured durations stay correct.
pub fn shift_clock(command: &mut Command, offset: &str) {
    command.env("LD_PRELOAD", faketime()).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    files.find(|file| file.is_file()).expect("`libfaketime.so.1` is missing: apt-get install libfaketime")
}

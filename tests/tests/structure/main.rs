//! Rules for the source tree: imports without cycles, type names with one meaning, and sizes of files.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod glossary;
mod modules;
mod names;
mod sizes;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every Rust file below `folder`, without build output.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns a file's path below the repository's root.
fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// The folder of each crate of the workspace that has sources.
fn crates() -> Vec<PathBuf> {
    let mut crates = vec![root().to_owned()];
    for entry in fs::read_dir(root()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.join("Cargo.toml").is_file() && folder.join("src").is_dir() {
            crates.push(folder);
        }
    }
    crates.sort();
    assert!(crates.len() > 9, "{crates:?}");
    crates
}

/// A folder of source files, for the tests of the rules themselves. It is removed on drop.
struct Sources(PathBuf);

impl Sources {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("faststate-structure-{name}-{}", std::process::id()));
        for (file, text) in files {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Self(folder)
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! Files that one reading can take in.

use std::{fs, path::Path};

use crate::{Sources, root, rust_files, shown};

/// The longest that a source file may be, in lines.
const MAX_LINES: usize = 500;

/// Returns the files below `folder` that are too long, with their lengths.
fn too_long(folder: &Path) -> Vec<String> {
    let lengths = rust_files(folder).into_iter().map(|file| {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        (file, lines)
    });
    let long = lengths.filter(|(_, lines)| *lines > MAX_LINES);
    long.map(|(file, lines)| format!("{}: {lines} lines", shown(&file))).collect()
}

#[test]
fn source_files_have_at_most_500_lines() {
    let long = too_long(root());
    assert!(long.is_empty(), "split these files by concept:\n{}", long.join("\n"));
}

#[test]
fn long_file_is_found() {
    let (longest, too) = ("\n".repeat(MAX_LINES), "\n".repeat(MAX_LINES + 1));
    let sources = Sources::new("long", &[("src/longest.rs", &longest), ("src/too.rs", &too)]);
    let found = too_long(&sources.0);
    assert!(found.len() == 1 && found[0].ends_with("src/too.rs: 501 lines"), "{found:?}");
}

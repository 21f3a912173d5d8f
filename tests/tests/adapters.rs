//! Adapters are interchangeable: the same site on three adapters, and the differences in code.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The lines of the demo's counter in an adapter's file: its route, its handler and the server.
fn about_the_counter(adapter: &str) -> Vec<String> {
    let text = read(&format!("faststate-demo/src/web/{adapter}.rs"));
    let code = text.split("\n\n").flat_map(|part| {
        let whole = part.contains("fn counter(");
        part.lines().filter(move |line| whole || line.contains("counter") || line.contains("FastState"))
    });
    code.map(str::to_owned).collect()
}

/// An example's code, without its documentation and its test.
fn code(path: &str) -> Vec<String> {
    let whole = read(path);
    let whole = whole.split("\n/// `cargo test").next().unwrap_or_default();
    whole.lines().filter(|line| !line.starts_with("//!")).map(str::to_owned).collect()
}

/// The differing lines with `-` and `+`, in order.
fn difference(before: &[String], after: &[String]) -> Vec<String> {
    // The length of the longest common subsequence after each pair of lines.
    let mut common = vec![vec![0; after.len() + 1]; before.len() + 1];
    for at in (0..before.len()).rev() {
        for to in (0..after.len()).rev() {
            common[at][to] = if before[at] == after[to] {
                common[at + 1][to + 1] + 1
            } else {
                common[at + 1][to].max(common[at][to + 1])
            };
        }
    }
    let (mut at, mut to, mut lines) = (0, 0, Vec::new());
    while at < before.len() || to < after.len() {
        if at < before.len() && to < after.len() && before[at] == after[to] {
            (at, to) = (at + 1, to + 1);
        } else if to == after.len() || at < before.len() && common[at + 1][to] >= common[at][to + 1] {
            lines.push(format!("-{}", before[at]));
            at += 1;
        } else {
            lines.push(format!("+{}", after[to]));
            to += 1;
        }
    }
    lines.retain(|line| line.len() > 1);
    lines
}

/// The `diff` blocks of `docs/design/adapters.md`.
fn shown() -> Vec<Vec<String>> {
    let text = read("docs/design/adapters.md");
    let blocks = text.split("```diff\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| block.lines().map(str::to_owned).collect()).collect()
}

#[test]
fn the_demos_pages_know_no_web_framework() {
    let source = repository().join("faststate-demo/src");
    let pages: Vec<_> = files(&source)
        .into_iter()
        .filter(|file| !file.starts_with(source.join("web")) && !file.ends_with("web.rs"))
        .collect();
    assert!(pages.len() > 20, "{pages:?}");
    for file in pages {
        let text = fs::read_to_string(&file).expect("the file is there");
        let named = ["axum::", "hyper::", "salvo::"].iter().find(|framework| text.contains(**framework));
        assert_eq!(named, None, "{}", file.display());
    }
}

/// One program contains all three, so nothing else can differ.
#[test]
fn only_the_adapters_lines_differ_and_the_document_shows_them() {
    let salvo = about_the_counter("salvo");
    let differences = ["axum", "hyper"].map(|other| difference(&salvo, &about_the_counter(other)));
    assert_eq!(shown(), differences, "the blocks of docs/design/adapters.md are the differences");
    for adapter in ["salvo", "axum", "hyper"] {
        let lines = read(&format!("faststate-demo/src/web/{adapter}.rs")).lines().count();
        assert!(lines < 150, "{adapter}: {lines} lines");
    }
}

#[test]
fn the_examples_differ_in_their_adapters_lines_too() {
    let salvo = code("examples/counter.rs");
    for (path, most) in [("examples/counter_axum.rs", 12), ("examples/custom_adapter/main.rs", 30)] {
        let difference = difference(&salvo, &code(path));
        assert!((4..most).contains(&difference.len()), "{path}: {difference:#?}");
    }
}

#[test]
fn an_adapter_by_hand_is_short() {
    let lines = read("examples/custom_adapter/adapter.rs").lines().count();
    assert!(lines < 150, "{lines} lines");
}

/// An application that changes its adapter changes a module's name and the types of its handlers.
#[test]
fn both_frameworks_adapters_have_the_same_names() {
    let names = |path: &str| {
        let text = read(path);
        let public = text.split("pub use self::{").nth(1).and_then(|rest| rest.split("};").next());
        let words = public.unwrap_or_default().split(|char: char| !char.is_alphanumeric());
        let mut names: Vec<String> =
            words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_owned).collect();
        names.sort();
        names
    };
    let (salvo, axum) = (names("faststate-salvo/src/lib.rs"), names("faststate-axum/src/lib.rs"));
    // The names of the framework, and the layers that axum requires.
    let shared = |names: Vec<String>| -> Vec<String> {
        names.into_iter().filter(|name| !["Salvo", "Axum", "Paged"].contains(&&**name)).collect()
    };
    assert_eq!(shared(salvo), ["Current", "Page", "PageError", "Pages"]);
    assert_eq!(shared(axum), ["Current", "Page", "PageError", "Pages"]);
}

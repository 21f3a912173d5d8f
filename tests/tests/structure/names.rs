//! Each bare type name has one meaning in the workspace.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use syn::Item;

use crate::{Sources, crates, root, rust_files};

/// Names that several files define on purpose, where the files begin with one of these paths.
const SHARED: [(&[&str], &[&str]); 5] = [
    // An adapter's types wrap those of `faststate-http`, so that an application changes one module's name to change
    // its framework.
    (&["FastState", "Page"], &["faststate-http/", "faststate-axum/", "faststate-salvo/"]),
    (
        &["Current", "PageError", "Pages", "Routes", "Site", "SiteConnection"],
        &["faststate-axum/", "faststate-salvo/"],
    ),
    // The demo runs on several frameworks; each of these files is compiled alone.
    (&["PageResult"], &["faststate-demo/src/web/"]),
    // One definition with the feature `metrics` or `tls`, and one without it.
    (&["Count", "Durations", "Stopwatch"], &["faststate-core/src/metrics"]),
    (&["TlsClient"], &["faststate-store-redis/src/tls/"]),
];

/// Adds the names of the types that the items define, without modules of tests.
fn collect(items: &[Item], names: &mut Vec<String>) {
    for item in items {
        match item {
            Item::Struct(item) => names.push(item.ident.to_string()),
            Item::Enum(item) => names.push(item.ident.to_string()),
            Item::Trait(item) => names.push(item.ident.to_string()),
            Item::Type(item) => names.push(item.ident.to_string()),
            Item::Mod(module) if module.ident != "tests" => {
                if let Some((_, items)) = &module.content {
                    collect(items, names);
                }
            }
            _ => {}
        }
    }
}

/// Returns whether the file consists of tests.
fn is_test(file: &str) -> bool {
    file.contains("/tests/") || file.ends_with("/tests.rs")
}

/// Returns each type name of these crates with the files below `root` that define it.
pub(crate) fn definitions(root: &Path, crates: &[PathBuf]) -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in crates.iter().flat_map(|folder| rust_files(&folder.join("src"))) {
        let shown = file.strip_prefix(root).unwrap().display().to_string();
        if is_test(&shown) {
            continue;
        }
        let mut names = Vec::new();
        collect(&syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap().items, &mut names);
        for name in names {
            places.entry(name).or_default().push(shown.clone());
        }
    }
    places
}

/// Returns the names with several definitions that [`SHARED`] does not list.
fn ambiguous(definitions: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let is_shared = |name: &str, files: &[String]| {
        SHARED.iter().any(|(names, folders)| {
            let is_in = |file: &String| folders.iter().any(|folder| file.starts_with(folder));
            names.contains(&name) && files.iter().all(is_in)
        })
    };
    let several = definitions.iter().filter(|(name, files)| files.len() > 1 && !is_shared(name, files));
    several.map(|(name, files)| format!("{name}: {}", files.join(", "))).collect()
}

#[test]
fn type_names_have_one_meaning() {
    // The crate of these tests is not part of what they describe.
    let crates: Vec<_> = crates().into_iter().filter(|folder| !folder.ends_with("tests")).collect();
    let found = ambiguous(&definitions(root(), &crates));
    assert!(found.is_empty(), "these names have several meanings:\n{}", found.join("\n"));
}

#[test]
fn type_with_two_meanings_is_found() {
    let sources = Sources::new(
        "names",
        &[
            ("one/src/lib.rs", "struct Queue; struct Page; mod tests { struct Own; }"),
            ("two/src/lib.rs", "mod inner { enum Queue {} } type Page = u8; struct Own;"),
            ("two/src/tests.rs", "struct Own;"),
        ],
    );
    let crates = ["one", "two"].map(|name| sources.0.join(name));
    let found = ambiguous(&definitions(&sources.0, &crates));
    assert_eq!(found, ["Page: one/src/lib.rs, two/src/lib.rs", "Queue: one/src/lib.rs, two/src/lib.rs"]);
}

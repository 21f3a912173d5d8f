//! Every link, file and item that the guide and the other documents name exists.

mod documents;

use std::{collections::BTreeSet, fs};

use documents::{Document, repository};

/// The address of the published API documentation.
const API: &str = "https://docs.rs/faststate/latest/faststate/";
/// The first program of the guide, on two frameworks.
const FIRST: [&str; 2] = ["examples/counter.rs", "examples/counter_axum.rs"];
/// The width of a snippet, in columns.
const MAX_SNIPPET_COLUMNS: usize = 88;

fn chapters() -> Vec<Document> {
    let folder = repository().join("docs/guide");
    let mut chapters: Vec<_> = fs::read_dir(folder)
        .expect("the guide is in docs/guide")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md") && !path.ends_with("SUMMARY.md"))
        .map(|path| Document::read(&path))
        .collect();
    chapters.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(chapters.len() > 10, "the guide has chapters");
    chapters
}

/// The documents for contributors: those at the root, in `docs` and in `docs/design`.
fn project_documents() -> Vec<Document> {
    let mut documents = Vec::new();
    for folder in ["", "docs", "docs/design"] {
        let entries = fs::read_dir(repository().join(folder)).expect("the folder exists");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let markdown = paths.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
        documents.extend(markdown.map(|path| Document::read(&path)));
    }
    assert!(documents.len() > 10, "the project has documents");
    documents
}

fn name(chapter: &Document) -> String {
    chapter.path.file_stem().expect("a chapter has a name").to_string_lossy().into_owned()
}

#[test]
fn each_chapter_is_in_the_book_and_in_the_documentation_once() {
    let summary = Document::read(&repository().join("docs/guide/SUMMARY.md"));
    let mut listed: Vec<_> = summary.links().map(|link| link.trim_end_matches(".md").to_owned()).collect();
    let modules = fs::read_to_string(repository().join("src/guide.rs")).expect("the guide is a module");
    for chapter in chapters().iter().map(name) {
        let here = modules.matches(&format!("include_str!(\"../docs/guide/{chapter}.md\")")).count();
        assert_eq!(here, 1, "src/guide.rs includes {chapter}.md");
        assert!(
            chapter == "index" || modules.contains(&format!("pub mod {chapter} {{}}")),
            "src/guide.rs has a module `{chapter}`"
        );
        let before = listed.len();
        listed.retain(|name| *name != chapter);
        assert_eq!(before - listed.len(), 1, "SUMMARY.md lists {chapter}.md");
    }
    assert_eq!(listed, [""; 0], "SUMMARY.md lists what is no chapter");
}

#[test]
fn links_between_documents_hold() {
    let mut documents = chapters();
    documents.extend(project_documents());
    let mut broken = Vec::new();
    for document in &documents {
        let folder = document.path.parent().expect("a document is in a folder");
        for link in document.links().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').map_or((link, None), |(path, at)| (path, Some(at)));
            let target = if path.is_empty() { document.path.clone() } else { folder.join(path) };
            let holds = target.exists() && anchor.is_none_or(|at| Document::read(&target).has_anchor(at));
            broken.extend((!holds).then(|| format!("{}: {link}", document.path.display())));
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn files_that_documents_name_are_there() {
    let mut missing = Vec::new();
    for document in chapters().into_iter().chain(project_documents()) {
        let named = document.code.iter().filter(|code| documents::is_file_of_ours(code));
        let missed = named.filter(|file| !repository().join(file).exists());
        missing.extend(missed.map(|file| format!("{}: {file}", document.path.display())));
    }
    assert!(missing.is_empty(), "no such files:\n{}", missing.join("\n"));
}

/// A chapter defines its links for a book, and `src/guide/links.md`, which comes first in the documentation,
/// defines them all anew for rustdoc: rustdoc checks those, and this that both lead to the same.
#[test]
fn links_into_the_api_say_the_same_to_both() {
    let rustdoc = Document::read(&repository().join("src/guide/links.md"));
    let mut used = BTreeSet::new();
    for chapter in chapters() {
        assert_eq!(
            chapter.undefined,
            [""; 0],
            "{} uses links that it does not define",
            chapter.path.display()
        );
        for (label, link) in &chapter.definitions {
            used.insert(label.clone());
            let path = rustdoc.definitions.get(label);
            let path = path.unwrap_or_else(|| panic!("src/guide/links.md does not define [{label}]"));
            let expected = match link.strip_prefix(API) {
                Some(page) => documents::rust_path(page),
                None if link.starts_with("../../") => "crate::guide#the-demos-files".to_owned(),
                None if link == "index.md" => "crate::guide".to_owned(),
                None => format!("crate::guide::{}", link.trim_end_matches(".md")),
            };
            assert_eq!(*path, expected, "[{label}] of {}", chapter.path.display());
        }
    }
    let unused: Vec<_> = rustdoc.definitions.keys().filter(|label| !used.contains(*label)).collect();
    assert!(unused.is_empty(), "src/guide/links.md defines what no chapter uses: {unused:?}");
}

#[test]
fn laws_document_lists_each_law_with_its_tests() {
    let laws = fs::read_to_string(repository().join("docs/laws.md")).expect("docs/laws.md exists");
    for law in 1..=16 {
        let row = laws.lines().find(|line| line.starts_with(&format!("| {law} |")));
        let row = row.unwrap_or_else(|| panic!("docs/laws.md lists law {law}"));
        let number = format!("fn law_{law:02}_");
        let named = row.split('`').filter(|code| documents::is_file_of_ours(code));
        let source = |file: &str| fs::read_to_string(repository().join(file)).unwrap_or_default();
        assert!(
            named.map(source).any(|source| source.contains(&number)),
            "no file of law {law} has its tests"
        );
    }
}

#[test]
fn glossary_is_sorted_and_lists_each_term_once() {
    let glossary =
        fs::read_to_string(repository().join("docs/glossary.md")).expect("docs/glossary.md exists");
    let rows = glossary.lines().filter(|line| line.starts_with("| ")).skip(2);
    let terms: Vec<_> =
        rows.map(|row| row.split('|').nth(1).unwrap_or_default().trim().to_lowercase()).collect();
    assert!(terms.len() > 50, "the glossary has terms");
    assert!(terms.is_sorted_by(|one, next| one < next), "{terms:#?}");
}

/// Requires built documentation, which `tests/run` builds first.
#[test]
fn links_into_the_api_name_pages_that_rustdoc_writes() {
    let Some(built) = documents::built() else { return };
    let mut missing = Vec::new();
    for link in chapters().iter().flat_map(|chapter| chapter.definitions.values()) {
        let Some(page) = link.strip_prefix(API) else { continue };
        let (file, anchor) = page.split_once('#').map_or((page, None), |(file, at)| (file, Some(at)));
        let html = fs::read_to_string(built.join(file)).unwrap_or_default();
        let holds = !html.is_empty() && anchor.is_none_or(|at| html.contains(&format!("id=\"{at}\"")));
        missing.extend((!holds).then_some(page.to_owned()));
    }
    assert!(missing.is_empty(), "rustdoc writes no such pages:\n{}", missing.join("\n"));
}

/// They run as doctests of the facade, unless they are marked otherwise.
#[test]
fn every_snippet_runs() {
    for chapter in chapters() {
        for (kind, text) in &chapter.snippets {
            match kind.as_str() {
                "rust" | "sh" | "html" | "python" | "toml" => {}
                // It serves until it is stopped, so a story runs it.
                "rust,no_run" => assert!(is_example(text), "a snippet of {} never runs", name(&chapter)),
                kind => panic!("{}: what is a snippet of `{kind}`?", chapter.path.display()),
            }
        }
    }
}

/// Whether a program equals one of the examples, from its first `use` on.
fn is_example(program: &str) -> bool {
    let shown = |line: &str| match line.strip_prefix("# ") {
        Some(hidden) => format!("{hidden}\n"),
        None => format!("{}\n", if line == "#" { "" } else { line }),
    };
    let program: String = program.lines().map(shown).collect();
    FIRST.iter().any(|file| {
        let example = fs::read_to_string(repository().join(file)).expect("the example is there");
        let example = example.split("\n/// `cargo test").next().unwrap_or_default().trim_end();
        example.find("\nuse ").is_some_and(|start| tokens(&example[start + 1..]) == tokens(&program))
    })
}

/// Returns a program without what a formatter changes for another width: white space, and commas at the end of a list.
fn tokens(program: &str) -> String {
    let text: String = program.split_whitespace().collect();
    text.replace(",)", ")").replace(",}", "}")
}

/// Longer lines of a snippet do not fit into the pages of the book.
#[test]
fn snippets_are_at_most_88_columns_wide() {
    let mut wide = Vec::new();
    for chapter in chapters() {
        let lines = chapter.snippets.iter().flat_map(|(_, text)| text.lines());
        let long = lines.filter(|line| line.chars().count() > MAX_SNIPPET_COLUMNS);
        wide.extend(long.map(|line| format!("{}: {line}", name(&chapter))));
    }
    assert!(wide.is_empty(), "break these lines:\n{}", wide.join("\n"));
}

#[test]
fn tokens_differ_only_with_the_program() {
    assert_eq!(tokens("fn a(\n    b: u8,\n) {}"), tokens("fn a(b: u8) {}"));
    assert_ne!(tokens("a(1)"), tokens("a(2)"));
}

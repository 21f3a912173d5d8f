//! The glossary: each term has one meaning, and each type one term.

use std::{collections::BTreeMap, fs};

use crate::{crates, names::definitions, root};

/// A row of the glossary.
struct Term {
    /// The term, without a qualifier in parentheses.
    term: String,
    /// The paths in the last column.
    places: Vec<String>,
}

/// Parses the rows of the table `| term | meaning | where |`.
fn terms(glossary: &str) -> Vec<Term> {
    let rows = glossary.lines().filter(|line| line.starts_with("| ")).skip(2);
    let parsed = rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        let term = cells[0].trim_start_matches("| ").split(" (").next().unwrap_or_default();
        let places = cells.last().unwrap().split('`').skip(1).step_by(2);
        Term { term: term.to_lowercase(), places: places.map(str::to_owned).collect() }
    });
    parsed.collect()
}

/// Returns the type that a path names: `registry::Applied` and `Applied::Changed` are of `Applied`.
fn type_of(path: &str) -> Option<&str> {
    path.split("::").find(|segment| segment.starts_with(|first: char| first.is_ascii_uppercase()))
}

/// Returns the terms that are listed twice, and the types that two terms stand for.
fn collisions(terms: &[Term]) -> Vec<String> {
    let mut found = Vec::new();
    let mut meanings: BTreeMap<&str, &str> = BTreeMap::new();
    for (at, Term { term, places }) in terms.iter().enumerate() {
        found.extend(
            terms[..at].iter().any(|other| other.term == *term).then(|| format!("`{term}` is listed twice")),
        );
        // A term that stands for one type, as opposed to a part of it or a place in the code.
        if let [place] = &places[..]
            && type_of(place).is_some_and(|name| place.ends_with(name))
            && let Some(other) = meanings.insert(type_of(place).unwrap_or_default(), term)
        {
            found.push(format!("`{place}` is called `{other}` and `{term}`"));
        }
    }
    found
}

fn read() -> Vec<Term> {
    let terms = terms(&fs::read_to_string(root().join("docs/glossary.md")).unwrap());
    assert!(terms.len() > 50, "the glossary has terms");
    terms
}

#[test]
fn terms_and_types_of_the_glossary_have_one_meaning() {
    let found = collisions(&read());
    assert!(found.is_empty(), "docs/glossary.md:\n{}", found.join("\n"));
}

#[test]
fn types_of_the_glossary_exist() {
    let known = definitions(root(), &crates());
    let terms = read();
    let named = terms.iter().flat_map(|term| &term.places);
    let missing: Vec<_> =
        named.filter(|place| type_of(place).is_some_and(|name| !known.contains_key(name))).collect();
    assert!(missing.is_empty(), "docs/glossary.md names types that do not exist: {missing:?}");
}

#[test]
fn collision_of_two_terms_is_found() {
    let glossary = "| term | meaning | where |\n| --- | --- | --- |\n\
        | queue | waiting calls | `store::Queue` |\n\
        | line | waiting calls | `Queue` |\n\
        | queue (of a key) | waiting events | `registry` |\n\
        | length | of a queue | `Queue::len` |\n";
    let expected = ["`Queue` is called `queue` and `line`", "`queue` is listed twice"];
    assert_eq!(collisions(&terms(glossary)), expected);
}

//! Promise 6: different keys have different records.

use std::sync::Arc;

use faststate_core::{Key, Scope, Store, Version, store::Precondition};

use super::{key, new_state, record, saved};
use crate::suites::{Failure, ensure};

/// Keys that differ in anything (case, a trailing space, a separator, a NUL, the 255th byte) have different records
/// (law 11).
pub async fn distinct_keys_are_distinct_records(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "different keys have different records";
    let keys = similar_keys()?;
    let mut versions = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let record = record(Version::start(), at.to_string());
        let saving = a.save(key, &record, Precondition::Absent, None).await?;
        saved(saving, &format!("{PROMISE} (saving {key})"))?;
        versions.push(record.version);
    }
    for (at, key) in keys.iter().enumerate() {
        let found = b.load(key, None).await?.record;
        ensure!(
            found.as_ref().is_some_and(|record| *record.data == *at.to_string().as_bytes()),
            PROMISE,
            "{key} has {found:?}, but {at} was saved"
        );
    }
    for (at, key) in keys.iter().enumerate() {
        ensure!(b.delete(key, versions[at]).await?, PROMISE, "{key} was deleted together with another key");
    }
    Ok(())
}

fn similar_keys() -> Result<Vec<Key>, Failure> {
    let state = new_state();
    let long = |last: char| format!("{}{last}", "L".repeat(254));
    let wide = |last: char| format!("{}{last}", "🦀".repeat(63));
    let ids = [
        "a", "A", "a ", " a", "a\t", "a\0", "a\0b", "\0", "a:b", "a:", ":b", "a/b", "a%2fb", "a%", "a_",
        "a-", "a*", "alice", "Alice", "ALICE", "alice ", "é", "e\u{301}", "É", "ß", "ss", "ı", "i", "İ",
        "🦀", "🦞", "{a}", "1", "01", "1.0", "null", "",
    ];
    let mut keys =
        vec![key(&state, Scope::Global, None, None)?, key(&format!("{state}a"), Scope::Global, None, None)?];
    for id in ids.into_iter().filter(|id| !id.is_empty()) {
        keys.push(key(&state, Scope::Record, None, Some(id))?);
        keys.push(key(&state, Scope::User, Some(id), None)?);
        keys.push(key(&state, Scope::Session, Some(id), None)?);
    }
    for id in [long('x'), long('X'), wide('x'), wide('y')] {
        keys.push(key(&state, Scope::Record, None, Some(&id))?);
        keys.push(key(&state, Scope::Component, Some(&id), Some(&id))?);
    }
    for (owner, id) in [("a", "bc"), ("ab", "c"), ("a:b", "c"), ("a", "b:c"), ("a", "b/c"), ("a/b", "c")] {
        keys.push(key(&state, Scope::Component, Some(owner), Some(id))?);
    }
    keys.push(key(&format!("{state}a"), Scope::Record, None, Some("a"))?);
    Ok(keys)
}

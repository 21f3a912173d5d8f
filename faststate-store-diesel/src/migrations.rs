//! Selects the schema migrations that a database still needs.
//!
//! Each backend embeds its steps: step 1 creates the tables, and later steps change them. The table
//! `faststate_schema` has a row for each completed step. Steps are only added, never changed.

use crate::error::BackendError;

/// The steps after version `found` (0 if there are no tables), each with its number.
pub(crate) fn missing(
    found: i64,
    steps: &'static [&'static str],
) -> Result<impl Iterator<Item = (i64, &'static str)>, BackendError> {
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(BackendError::Newer { found, known });
    }
    Ok((1..).zip(steps.iter().copied()).filter(move |(number, _)| *number > found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_steps_are_run() {
        const STEPS: &[&str] = &["one", "two"];
        let run = |found| missing(found, STEPS).map(Iterator::collect::<Vec<_>>);
        assert_eq!(run(0).unwrap(), [(1, "one"), (2, "two")]);
        assert_eq!(run(1).unwrap(), [(2, "two")]);
        assert_eq!(run(2).unwrap(), []);
        assert!(matches!(run(3), Err(BackendError::Newer { found: 3, known: 2 })));
    }
}

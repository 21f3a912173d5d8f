//! The suites, run against the stores and broadcasters of core and against mutants: deliberately broken implementations
//! that a suite must catch.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod broadcaster;
mod cached;
mod guarded;
mod relay;
mod store;
mod write_behind;

use faststate_testkit::suites::Failure;

/// Asserts that the suite has failed with a promise that contains one of these texts, separated by `|`.
#[track_caller]
fn caught(outcome: Result<(), Failure>, promise: &str) {
    let failure = outcome.expect_err("the suite did not catch the mutant");
    let expected = promise.split('|').any(|promise| failure.promise().contains(promise));
    assert!(expected, "caught for another reason: {failure}");
}

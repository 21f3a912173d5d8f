//! The suites, called for the stores and broadcasters of this crate, and for mutants: deliberately
//! broken implementations that a suite must catch.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod broadcaster;
mod cached;
mod guarded;
mod relay;
mod store;
mod write_behind;

use faststate_testkit::suites::Failure;

/// The suite has caught the mutant, by a promise that has this, or one of these, in it.
#[track_caller]
fn caught(outcome: Result<(), Failure>, promise: &str) {
    let failure = outcome.expect_err("the suite did not notice");
    let expected = promise.split('|').any(|promise| failure.promise().contains(promise));
    assert!(expected, "caught for another reason: {failure}");
}

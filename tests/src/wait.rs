//! Waiting for what will happen, instead of sleeping and hoping.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// How long anything that a test waits for may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `accept` likes what it sees, and gives it back; panics with what it saw last after
/// [`DEADLINE`].
pub fn until<T: Debug>(what: &str, look: impl FnMut() -> T, accept: impl Fn(&T) -> bool) -> T {
    until_within(DEADLINE, what, look, accept)
}

/// [`until`] with another deadline.
pub fn until_within<T: Debug>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> T,
    accept: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        let seen = look();
        if accept(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "waited {deadline:?} for {what}, and saw {seen:?}");
        thread::sleep(PAUSE);
    }
}

//! Waits for conditions with a deadline.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// The deadline of a condition.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The longest that a call may take while its store is unavailable: the deadline of 2 s, plus 2 s for a test machine
/// whose cores are busy with other tests.
pub const UNAVAILABLE_LIMIT: Duration = Duration::from_secs(4);

/// The pause between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// Probes until `accept` accepts the result, and returns it; panics with the last result after
/// [`DEADLINE`].
pub fn until<T: Debug>(what: &str, look: impl FnMut() -> T, accept: impl Fn(&T) -> bool) -> T {
    until_within(DEADLINE, what, look, accept)
}

/// [`until`] with a different deadline.
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
        thread::sleep(PROBE_INTERVAL);
    }
}

//! How often a test replaces a server.

/// The number of failovers of a test, or of its runs: `FASTSTATE_FAILOVERS`, or this default.
#[must_use]
pub fn failovers(default: usize) -> usize {
    let count = std::env::var("FASTSTATE_FAILOVERS").ok();
    count.map_or(default, |count| count.parse().expect("FASTSTATE_FAILOVERS is a number"))
}

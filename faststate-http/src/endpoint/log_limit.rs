//! A rate limit for log lines that a flood of requests can cause.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Writes at most one line per second.
pub(super) struct LogLimit(Mutex<Option<LoggedLine>>);

/// The latest line.
struct LoggedLine {
    at: Instant,
    id: String,
    /// The number of lines skipped since.
    left_out: u64,
}

impl LogLimit {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Writes a line with this id and the number of lines skipped before it, unless the latest line is too recent.
    ///
    /// Returns the id of the line that stands for this occurrence.
    pub(super) fn write(&self, id: &str, line: impl FnOnce(&str, u64)) -> String {
        self.write_at(Instant::now(), id, line)
    }

    fn write_at(&self, now: Instant, id: &str, line: impl FnOnce(&str, u64)) -> String {
        let left_out = {
            let mut latest = self.0.lock();
            match &mut *latest {
                Some(latest) if now.duration_since(latest.at) < LINE_INTERVAL => {
                    latest.left_out += 1;
                    return latest.id.clone();
                }
                latest => {
                    let next = LoggedLine { at: now, id: id.to_owned(), left_out: 0 };
                    latest.replace(next).map_or(0, |earlier| earlier.left_out)
                }
            }
        };
        line(id, left_out);
        id.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_06_flood_of_failures_writes_one_line_per_second() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        let mut lines = Vec::new();
        let mut write = |millis, id: &str| {
            let at = start + Duration::from_millis(millis);
            limit.write_at(at, id, |id, left_out| lines.push((id.to_owned(), left_out)))
        };
        assert_eq!(write(0, "a"), "a");
        for millis in 1..1000 {
            assert_eq!(write(millis, "b"), "a", "the id of the line in the log");
        }
        assert_eq!(write(1000, "c"), "c");
        assert_eq!(lines, [("a".to_owned(), 0), ("c".to_owned(), 999)]);
    }
}

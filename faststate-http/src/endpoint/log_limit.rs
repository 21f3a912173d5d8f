//! A limit of lines in the log, for what a flood of requests can cause.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long one line stands for all that follow.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes at most one line a second.
pub(super) struct LogLimit(Mutex<Option<Line>>);

/// The latest line.
struct Line {
    at: Instant,
    id: String,
    left_out: u64,
}

impl LogLimit {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Writes a line with this id, and with how many were left out since the last; gives the id of the line that
    /// stands for this occurrence.
    pub(super) fn write(&self, id: &str, line: impl FnOnce(&str, u64)) -> String {
        self.write_at(Instant::now(), id, line)
    }

    fn write_at(&self, now: Instant, id: &str, line: impl FnOnce(&str, u64)) -> String {
        let left_out = {
            let mut latest = self.0.lock();
            match &mut *latest {
                Some(latest) if now.duration_since(latest.at) < PAUSE => {
                    latest.left_out += 1;
                    return latest.id.clone();
                }
                latest => {
                    let next = Line { at: now, id: id.to_owned(), left_out: 0 };
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
    fn law_06_a_flood_of_failures_writes_one_line_a_second() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        let mut lines = Vec::new();
        let mut write = |millis, id: &str| {
            let at = start + Duration::from_millis(millis);
            limit.write_at(at, id, |id, left_out| lines.push((id.to_owned(), left_out)))
        };
        assert_eq!(write(0, "a"), "a");
        for millis in 1..1000 {
            assert_eq!(write(millis, "b"), "a", "the line that the log has");
        }
        assert_eq!(write(1000, "c"), "c");
        assert_eq!(lines, [("a".to_owned(), 0), ("c".to_owned(), 999)]);
    }
}

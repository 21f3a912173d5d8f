//! Captures the log of a test's thread.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;
use tracing::{
    Dispatch, Level,
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::fmt::format::FmtSpan;

/// The log of the current thread as text, from [`CapturedLog::start`] until the value is dropped.
///
/// A test on tokio's current-thread runtime captures everything that its tasks log. Spans of the level are logged when
/// they close.
#[derive(Debug)]
pub struct CapturedLog {
    text: Text,
    _guard: DefaultGuard,
}

impl CapturedLog {
    /// Captures the lines of this level and of more severe levels.
    #[must_use]
    pub fn start(level: Level) -> Self {
        // While a process has one dispatcher, `tracing` decides on the thread that reaches a log statement first whether
        // the statement is enabled for all threads. With two of them, it asks every dispatcher.
        static OTHERS: LazyLock<[Dispatch; 2]> =
            LazyLock::new(|| [(); 2].map(|()| Dispatch::new(NoSubscriber::new())));
        LazyLock::force(&OTHERS);
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_span_events(FmtSpan::CLOSE)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        Self { text, _guard: tracing::subscriber::set_default(subscriber.finish()) }
    }

    /// Returns all lines so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.0.lock()).into_owned()
    }

    /// Returns how many lines so far contain this text.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }

    /// Returns the first line that contains all of these parts.
    ///
    /// # Panics
    ///
    /// Panics with the whole log if there is none.
    #[expect(clippy::must_use_candidate, reason = "a test may only require the line")]
    pub fn line(&self, parts: &[&str]) -> String {
        let text = self.text();
        let found = text.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| panic!("no line has {parts:?} in:\n{text}")).to_owned()
    }
}

#[derive(Clone, Debug, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn statement_that_another_thread_reaches_first_is_captured() {
        let log = CapturedLog::start(Level::WARN);
        let warn = || tracing::warn!("one statement");
        thread::spawn(warn).join().unwrap();
        warn();
        assert_eq!(log.count("one statement"), 1);
    }

    #[test]
    fn less_severe_levels_are_not_captured() {
        let log = CapturedLog::start(Level::INFO);
        tracing::debug!("quiet");
        tracing::warn!(reason = "full", "loud");
        assert_eq!((log.count("quiet"), log.count("loud")), (0, 1));
        log.line(&["WARN", "loud", "reason=\"full\""]);
    }
}

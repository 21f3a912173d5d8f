//! A browser's page without the browser: what has merged a stream.

mod document;

use faststate_core::{Key, Version, internal::SignalPath, registry::Rendered};
use serde_json::{Map, Value};

use super::{
    dom::Dom,
    signal_tree::{Path, SignalTree, find_cursors, normal, same, without_own},
    sse::{SseEvent, SseParser},
    value_diff::difference,
};
use crate::{Failure, ensure};

/// A page that merges what a stream sends, as Datastar 1.0.4 does: signals, elements, cursors.
///
/// What it holds once a stream is quiet is what laws 4 and 5 are about:
/// [`follows`](Self::follows) compares it with the truth, and [`feed`](Self::feed) refuses a version
/// that is older than one before it. It outlives its connections: [`cut`](Self::cut) ends one, in the
/// middle of a frame if need be.
#[derive(Debug, Default)]
pub struct BrowserPage {
    parser: SseParser,
    signals: SignalTree,
    body: Dom,
    seen: Vec<(Path, Version)>,
    events: usize,
    /// What Datastar would write to the console; without one, it is a failure.
    console: Option<Vec<String>>,
}

impl BrowserPage {
    /// A page that shows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A page whose template has placed these topics: the signals merged, the views' elements in the
    /// body.
    ///
    /// # Errors
    /// What is no JSON object, or no HTML.
    pub fn showing(topics: &[Rendered]) -> Result<Self, Failure> {
        let mut page = Self::new();
        for topic in topics {
            page.show(topic)?;
        }
        Ok(page)
    }

    /// Shows one topic more, as a template does.
    ///
    /// # Errors
    /// What is no JSON object, or no HTML.
    pub fn show(&mut self, topic: &Rendered) -> Result<(), Failure> {
        match topic {
            Rendered::Signals(signals) => self.merge(signals),
            Rendered::View(elements, cursor) => {
                self.body.append(Dom::parse(elements.html())?);
                self.merge(cursor)
            }
        }
    }

    /// Merges the next bytes of the stream; where a connection cuts them is of no importance.
    ///
    /// # Errors
    /// Bytes that a browser would not merge, and a version older than one before it (law 5).
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for event in self.parser.feed(bytes)? {
            self.take(&event)?;
        }
        Ok(())
    }

    /// The connection ends here.
    pub fn cut(&mut self) {
        self.parser.cut();
    }

    /// Forgets what it has seen, for a test that lets the truth itself go back.
    pub fn forget_versions(&mut self) {
        self.seen.clear();
    }

    /// Whether the page shows a key's truth, `state` as it serialises, after the wire's normalisation.
    ///
    /// # Errors
    /// The difference.
    pub fn follows(&self, key: &Key, state: &Value) -> Result<(), Failure> {
        let shown = self.signals.at(&key.signal_path()).cloned();
        let shown = without_own(shown.unwrap_or_default());
        let truth = normal(state);
        ensure!(
            same(&shown, &truth),
            "a quiet stream has led to the truth (law 4)",
            "{key} shows {shown}, not {truth}:{}",
            difference(&truth, &shown)
        );
        Ok(())
    }

    /// The page's elements.
    #[must_use]
    pub fn html(&self) -> String {
        self.body.to_string()
    }

    /// The cursor that the page holds of a key's signals, or of one of its views.
    #[must_use]
    pub fn cursor(&self, key: &Key, view: Option<&str>) -> Option<Version> {
        self.signals.at(&cursor_path(key, view))?.as_str()?.parse().ok()
    }

    /// Every cursor, nested as the follow action sends them in `?datastar=`.
    #[must_use]
    pub fn cursors(&self) -> Value {
        self.signals.cursors()
    }

    /// The last id of the stream, as another client than a browser sends it in `Last-Event-ID`.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.parser.last_id()
    }

    /// Every signal, cursors included.
    #[must_use]
    pub const fn signals(&self) -> &Map<String, Value> {
        self.signals.as_map()
    }

    /// The versions that the page has been given, per cursor, in order.
    pub fn versions(&self, key: &Key, view: Option<&str>) -> impl Iterator<Item = Version> {
        let path = cursor_path(key, view);
        self.seen.iter().filter(move |(at, _)| *at == path).map(|(_, version)| *version)
    }

    /// How many events it has merged.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }

    /// How the stream reads.
    #[must_use]
    pub const fn stream(&self) -> &SseParser {
        &self.parser
    }

    fn take(&mut self, event: &SseEvent) -> Result<(), Failure> {
        self.events += 1;
        let arguments = Arguments::of(&event.data);
        match &*event.kind {
            "datastar-patch-signals" => self.merge(arguments.get("signals").as_bytes()),
            "datastar-patch-elements" => {
                let mode = arguments.get("mode");
                let mode = if mode.is_empty() { "outer" } else { &mode };
                let missing =
                    self.body.patch(mode, &arguments.get("selector"), &arguments.get("elements"))?;
                match (missing, &mut self.console) {
                    (None, _) => Ok(()),
                    (Some(missing), Some(console)) => {
                        console.push(missing);
                        Ok(())
                    }
                    (Some(missing), None) => Err(Failure::new("elements fit the page", missing)),
                }
            }
            kind => Err(Failure::new("a stream carries Datastar's events", format!("one is {kind:?}"))),
        }
    }

    fn merge(&mut self, patch: &[u8]) -> Result<(), Failure> {
        const PROMISE: &str = "signals are strict JSON objects (law 12)";
        let patch: Value = serde_json::from_slice(patch).map_err(|error| Failure::error(PROMISE, &error))?;
        let Value::Object(object) = &patch else {
            return Err(Failure::new(PROMISE, format!("there is {patch}")));
        };
        let mut versions = Vec::new();
        find_cursors(object, &mut Vec::new(), &mut versions)?;
        for (path, version) in versions {
            self.see(path, version)?;
        }
        self.signals.merge(&patch);
        Ok(())
    }

    /// Law 5: of one epoch never an older version, and no epoch comes back; but what nobody has saved yet each node
    /// begins with an epoch of its own.
    fn see(&mut self, path: Path, version: Version) -> Result<(), Failure> {
        let mut before = self.seen.iter().rev().filter(|(at, _)| *at == path).map(|(_, version)| *version);
        if let Some(last) = before.next() {
            let older = version.is_before(last)
                || (version.epoch == last.epoch && version.seq == last.seq && version != last);
            let begun = |before: Version| before.seq == 0 && last.seq == 0;
            let returned = version.epoch != last.epoch
                && before.any(|before| before.epoch == version.epoch && !begun(before));
            ensure!(
                !older && !returned,
                "a follower never goes back (law 5)",
                "{path:?} went from {last} to {version}"
            );
            if last == version {
                return Ok(());
            }
        }
        self.seen.push((path, version));
        Ok(())
    }
}

/// The arguments of a Datastar event: lines of a name, a blank and a text; lines of one name are joined.
struct Arguments<'a>(&'a str);

impl<'a> Arguments<'a> {
    const fn of(data: &'a str) -> Self {
        Self(data)
    }

    fn get(&self, name: &str) -> String {
        let lines = self.0.split('\n').filter_map(|line| line.split_once(' '));
        lines.filter(|(at, _)| *at == name).map(|(_, text)| text).collect::<Vec<_>>().join("\n")
    }
}

/// Where the wire nests a topic's cursor. Taken from the wire, because it is its own choice.
fn cursor_path(key: &Key, view: Option<&str>) -> Path {
    let json = SignalPath::of(key, view).json(None, Some(Version::start()));
    let mut found = Vec::new();
    if let Ok(Value::Object(object)) = serde_json::from_slice(&json) {
        let _ = find_cursors(&object, &mut Vec::new(), &mut found);
    }
    found.pop().map(|(path, _)| path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a page takes these versions one after the other; each is an epoch and how far it came.
    fn takes(versions: &[(u64, u64)]) -> bool {
        let mut page = BrowserPage::new();
        versions.iter().all(|(epoch, seq)| {
            page.merge(format!(r#"{{"a":{{"_v":"{epoch:016x}-{seq:x}-00000001"}}}}"#).as_bytes()).is_ok()
        })
    }

    #[test]
    fn law_05_no_version_goes_back_and_no_epoch_comes_back() {
        assert!(takes(&[(1, 0), (1, 1), (1, 5), (2, 0), (2, 1)]));
        for back in [
            &[(1, 2), (1, 1)][..],
            &[(1, 1), (2, 0), (1, 2)],
            &[(1, 0), (2, 3), (1, 0)],
            &[(1, 0), (2, 3), (1, 4)],
        ] {
            assert!(!takes(back), "{back:?}");
        }
        // Two nodes, before anybody has saved anything.
        assert!(takes(&[(1, 0), (2, 0), (1, 0), (2, 1), (2, 2)]));
    }
}

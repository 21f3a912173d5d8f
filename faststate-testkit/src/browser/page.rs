//! A browser's page, without a browser, that merges streams.

mod document;

use faststate_core::{
    Key, Version,
    internal::{Rendered, SignalPath},
};
use serde_json::{Map, Value};

use super::{
    dom::Dom,
    signal_tree::{Path, SignalTree, find_cursors, normal, same, without_own},
    sse::{SseEvent, SseParser},
    value_diff::difference,
};
use crate::{Failure, ensure};

/// A page that merges the signals, elements and cursors of a stream as Datastar 1.0.4 does.
///
/// It checks laws 4 and 5: [`follows`](Self::follows) compares the page with the stored state once the stream is quiet, and
/// [`feed`](Self::feed) refuses a version that is older than an earlier one. The page outlives its connections:
/// [`cut`](Self::cut) ends one, even in the middle of a frame.
#[derive(Debug, Default)]
pub struct BrowserPage {
    parser: SseParser,
    signals: SignalTree,
    body: Dom,
    seen: Vec<(Path, Version)>,
    events: usize,
    /// The errors that Datastar would write to the console. `None` turns each of them into a failure.
    console: Option<Vec<String>>,
}

impl BrowserPage {
    /// Creates an empty page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a page whose template shows these topics: signals are merged, and the elements of views are in the body.
    ///
    /// # Errors
    /// Fails if signals are not a JSON object or elements are not HTML.
    pub fn showing(topics: &[Rendered]) -> Result<Self, Failure> {
        let mut page = Self::new();
        for topic in topics {
            page.show(topic)?;
        }
        Ok(page)
    }

    /// Adds a topic, as a template does.
    ///
    /// # Errors
    /// Fails if signals are not a JSON object or elements are not HTML.
    pub fn show(&mut self, topic: &Rendered) -> Result<(), Failure> {
        match topic {
            Rendered::Signals(signals) => self.merge(signals),
            Rendered::View(elements, cursor) => {
                self.body.append(Dom::parse(elements.html())?);
                self.merge(cursor)
            }
        }
    }

    /// Merges the next bytes of the stream, which may be cut anywhere.
    ///
    /// # Errors
    /// Fails for bytes that a browser would not merge, and for a version older than an earlier one (law 5).
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for event in self.parser.feed(bytes)? {
            self.take(&event)?;
        }
        Ok(())
    }

    /// Ends the connection.
    pub fn cut(&mut self) {
        self.parser.cut();
    }

    /// Forgets the versions seen so far, for a test that moves the stored state back.
    pub fn forget_versions(&mut self) {
        self.seen.clear();
    }

    /// Checks that the page shows `state`, the serialised state of a key, in its form on the wire.
    ///
    /// # Errors
    /// Fails with the difference.
    pub fn follows(&self, key: &Key, state: &Value) -> Result<(), Failure> {
        let shown = self.signals.at(&key.signal_path()).cloned();
        let shown = without_own(shown.unwrap_or_default());
        let truth = normal(state);
        ensure!(
            same(&shown, &truth),
            "a page equals the stored state once its stream is quiet (law 4)",
            "{key} shows {shown}, not {truth}:{}",
            difference(&truth, &shown)
        );
        Ok(())
    }

    /// The HTML of the page.
    #[must_use]
    pub fn html(&self) -> String {
        self.body.to_string()
    }

    /// The page's cursor of a key's signals, or of one of its views.
    #[must_use]
    pub fn cursor(&self, key: &Key, view: Option<&str>) -> Option<Version> {
        self.signals.at(&cursor_path(key, view))?.as_str()?.parse().ok()
    }

    /// All cursors, nested as the follow action sends them in `?datastar=`.
    #[must_use]
    pub fn cursors(&self) -> Value {
        self.signals.cursors()
    }

    /// The last id of the stream, which clients other than browsers send in `Last-Event-ID`.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.parser.last_id()
    }

    /// All signals, including cursors.
    #[must_use]
    pub const fn signals(&self) -> &Map<String, Value> {
        self.signals.as_map()
    }

    /// The versions of one cursor that the page has received, in order.
    pub fn versions(&self, key: &Key, view: Option<&str>) -> impl Iterator<Item = Version> {
        let path = cursor_path(key, view);
        self.seen.iter().filter(move |(at, _)| *at == path).map(|(_, version)| *version)
    }

    /// The number of merged events.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }

    /// The parser of the stream.
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
                    (Some(missing), None) => {
                        Err(Failure::new("patched elements have a target on the page", missing))
                    }
                }
            }
            kind => Err(Failure::new(
                "a stream contains only events of Datastar",
                format!("it has the event {kind:?}"),
            )),
        }
    }

    fn merge(&mut self, patch: &[u8]) -> Result<(), Failure> {
        const PROMISE: &str = "signals are strict JSON objects (law 12)";
        let patch: Value = serde_json::from_slice(patch).map_err(|error| Failure::error(PROMISE, &error))?;
        let Value::Object(object) = &patch else {
            return Err(Failure::new(PROMISE, format!("a patch is {patch}")));
        };
        let mut versions = Vec::new();
        find_cursors(object, &mut Vec::new(), &mut versions)?;
        for (path, version) in versions {
            self.record_version(path, version)?;
        }
        self.signals.merge(&patch);
        Ok(())
    }

    /// Records a version and checks law 5: no version of an epoch is older than an earlier one, and no epoch returns. An
    /// instance that was never saved is exempt from the latter, because it has a different epoch on each node.
    fn record_version(&mut self, path: Path, version: Version) -> Result<(), Failure> {
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

/// The arguments of a Datastar event: lines of a name, a space and a text. Lines with the same name are joined.
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

/// Returns the path of a topic's cursor, taken from an encoded example because the wire format defines it.
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

    /// Returns whether a page accepts these versions in order, each an epoch and a sequence number.
    fn accepts(versions: &[(u64, u64)]) -> bool {
        let mut page = BrowserPage::new();
        versions.iter().all(|(epoch, seq)| {
            page.merge(format!(r#"{{"a":{{"_v":"{epoch:016x}-{seq:x}-00000001"}}}}"#).as_bytes()).is_ok()
        })
    }

    #[test]
    fn law_05_no_version_goes_back_and_no_epoch_comes_back() {
        assert!(accepts(&[(1, 0), (1, 1), (1, 5), (2, 0), (2, 1)]));
        for back in [
            &[(1, 2), (1, 1)][..],
            &[(1, 1), (2, 0), (1, 2)],
            &[(1, 0), (2, 3), (1, 0)],
            &[(1, 0), (2, 3), (1, 4)],
        ] {
            assert!(!accepts(back), "{back:?}");
        }
        // Two nodes before the first save.
        assert!(accepts(&[(1, 0), (2, 0), (1, 0), (2, 1), (2, 2)]));
    }
}

//! A browser's page, without a browser, that merges streams.

use faststate_core::{
    Key, Version,
    internal::{Rendered, SignalPath, merge},
};
use serde_json::{Map, Value};

use super::{
    dom::{Dom, Element},
    script::Script,
    signal_tree::{Path, SignalTree, find_cursors, nested, normal, same, without_own},
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

    /// Creates a page from HTML: its elements, and the signals of `data-signals` and `data-bind`. Signals that cannot be
    /// parsed are reported on the console.
    pub(super) fn document(html: &str) -> Result<Self, Failure> {
        let mut page = Self { body: Dom::document(html), console: Some(Vec::new()), ..Self::new() };
        let all = page.body.elements();
        let all = all.into_iter().flat_map(Element::attributes).filter_map(|(name, value)| {
            Some((name.strip_prefix("data-signals")?.to_owned(), value.to_owned()))
        });
        for (name, value) in all.collect::<Vec<_>>() {
            let (target, modifiers) = split_modifiers(&name);
            match Script::new(&value).literal(&page.signals) {
                Ok(value) => page.add_signals(target, value, modifiers)?,
                Err(failure) => page.console.get_or_insert_default().push(failure.to_string()),
            }
        }
        let bound: Vec<_> = page.body.elements().into_iter().filter_map(binding).collect();
        for (path, value) in bound {
            if page.signal(&path).is_none() {
                page.set(&path, value.into());
            }
        }
        Ok(page)
    }

    fn add_signals(&mut self, target: &str, value: Value, modifiers: &str) -> Result<(), Failure> {
        let mut signals = match target.strip_prefix(':') {
            Some(path) => nested(path, value),
            None => value,
        };
        if modifiers.contains("ifmissing") {
            merge(&mut signals, &Value::Object(self.signals.as_map().clone()));
        }
        self.merge(signals.to_string().as_bytes())
    }

    /// Returns the value of an attribute of the first element that has it.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.body.elements().into_iter().find_map(|element| element.attribute(name))
    }

    /// Returns a signal by its path without `$`.
    pub(super) fn signal(&self, path: &str) -> Option<&Value> {
        self.signals.get(path)
    }

    /// Sets a signal as an expression of the page does.
    pub(super) fn set(&mut self, path: &str, value: Value) {
        self.signals.set(path, value);
    }

    /// Merges the response to an event, which is not part of the stream.
    pub(super) fn merge_response(&mut self, content_type: &str, body: &[u8]) -> Result<(), Failure> {
        match content_type {
            "application/json" => self.merge(body),
            "text/event-stream" => {
                for event in SseParser::default().feed(body)? {
                    self.take(&event)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns the elements that match a selector.
    pub(super) fn find(&self, selector: &str) -> Result<Vec<&Element>, Failure> {
        self.body.find(selector)
    }

    /// Returns all elements.
    pub(super) fn elements(&self) -> Vec<&Element> {
        self.body.elements()
    }

    /// Returns the visible text.
    pub(super) fn text(&self) -> String {
        self.body.text(&|path| self.signal(path).cloned())
    }

    /// Returns the visible text of an element.
    pub(super) fn text_of(&self, element: &Element) -> String {
        element.text(&|path| self.signal(path).cloned())
    }

    /// The errors that Datastar would write to the console.
    pub(super) fn console(&self) -> &[String] {
        self.console.as_deref().unwrap_or_default()
    }

    /// The signals of the page.
    pub(super) const fn signal_tree(&self) -> &SignalTree {
        &self.signals
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

/// Returns the signal that an element is bound to, and its initial value.
fn binding(element: &Element) -> Option<(String, String)> {
    let path = element.attributes().find_map(|(name, value)| {
        let (rest, _) = split_modifiers(name.strip_prefix("data-bind")?);
        match rest.strip_prefix(':') {
            Some(path) => Some(path),
            None => rest.is_empty().then_some(value),
        }
    })?;
    Some((path.trim_start_matches('$').to_owned(), element.attribute("value").unwrap_or_default().to_owned()))
}

/// Splits the rest of an attribute's name from its modifiers.
fn split_modifiers(rest: &str) -> (&str, &str) {
    rest.split_once("__").unwrap_or((rest, ""))
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

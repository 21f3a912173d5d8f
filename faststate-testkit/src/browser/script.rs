//! A parser of the subset of Datastar's expressions that FastState writes: literals, signals, and actions with a payload
//! and headers.

use faststate_core::{EventId, internal::IN_ORDER};
use http::Method;
use serde_json::{Map, Value};

use super::{
    dom::{plain, truthy},
    signal_tree::SignalTree,
};
use crate::Failure;

/// An expression and the part of it that is not parsed yet.
pub(super) struct Script<'a> {
    text: &'a str,
    rest: &'a str,
}

/// The method, URL, payload and headers of an action.
#[derive(Debug, PartialEq)]
pub(super) struct Sending {
    pub(super) method: Method,
    pub(super) url: String,
    /// `None` sends the page's signals.
    pub(super) payload: Option<Value>,
    pub(super) headers: Vec<(String, String)>,
}

/// The expression that generates an event id.
const EVENT_ID_EXPRESSION: &str = "[...crypto.getRandomValues(new Uint32Array(4))].join('-')";

impl<'a> Script<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, rest: text }
    }

    /// Evaluates the whole expression as a literal, whose values may be signals.
    pub(super) fn literal(mut self, signals: &SignalTree) -> Result<Value, Failure> {
        let value = self.value(signals)?.unwrap_or_default();
        self.skip();
        if self.rest.is_empty() { Ok(value) } else { Err(self.unexpected("a literal")) }
    }

    /// Evaluates the first action of the expression with the current signals.
    ///
    /// If the action follows a condition (`$a ? @post(..) : @post(..)` or `$a && @post(..)`), the condition must be one
    /// signal, which may be negated. If it is false, the action after `:` is evaluated instead.
    pub(super) fn action(mut self, signals: &SignalTree) -> Result<Sending, Failure> {
        let before = &self.rest[..self.first_verb().map_or(0, |(at, _)| at)];
        let in_order = before.find(IN_ORDER);
        let before = in_order.map_or(before, |at| before[..at].trim_end_matches('('));
        let condition = before.trim_end().strip_suffix('?').or_else(|| before.trim_end().strip_suffix("&&"));
        let Some(condition) = condition else { return self.first_action(signals) };
        let statement = condition.rsplit(';').next().unwrap_or_default().trim();
        let (path, is_negated) = statement.strip_prefix('!').map_or((statement, false), |rest| (rest, true));
        let Some(path) = path.strip_prefix('$').filter(|path| path.chars().all(in_path)) else {
            return Err(self.unexpected("a condition on one signal"));
        };
        let first = self.first_action(signals)?;
        if truthy(signals.get(path)) != is_negated {
            return Ok(first);
        }
        if in_order.is_some() {
            self.consume(")");
        }
        if self.consume(":") {
            self.first_action(signals)
        } else {
            Err(self.unexpected("an action for the current signals"))
        }
    }

    /// The position of the first action, and its verb.
    fn first_verb(&self) -> Option<(usize, &'static str)> {
        let begin = |verb: &'static str| Some((self.rest.find(&format!("@{verb}("))?, verb));
        ["get", "post", "put", "patch", "delete"].into_iter().filter_map(begin).min()
    }

    fn first_action(&mut self, signals: &SignalTree) -> Result<Sending, Failure> {
        let Some((at, verb)) = self.first_verb() else {
            return Err(self.unexpected("an action: `@post('/..')` or another verb"));
        };
        self.rest = &self.rest[at + verb.len() + 2..];
        let method = Method::from_bytes(verb.to_ascii_uppercase().as_bytes());
        let method = method.map_err(|error| Failure::error("an action's verb is an HTTP method", &error))?;
        let Some(Value::String(url)) = self.value(signals)? else { return Err(self.unexpected("a URL")) };
        let mut sending = Sending { method, url, payload: None, headers: Vec::new() };
        if self.consume(",") {
            let options = self.value(signals)?.unwrap_or_default();
            sending.payload = options.get("payload").cloned();
            let headers = options.get("headers").and_then(Value::as_object).into_iter().flatten();
            sending.headers = headers.map(|(name, value)| (name.clone(), plain(Some(value)))).collect();
        }
        if self.consume(")") { Ok(sending) } else { Err(self.unexpected("the action's end")) }
    }

    /// Returns the URL of the first `@get` of the expression.
    pub(super) fn followed(self) -> Result<String, Failure> {
        let Some((_, rest)) = self.rest.split_once("@get(") else {
            return Err(self.unexpected("`@get('/..')`"));
        };
        match (Self { text: self.text, rest }).value(&SignalTree::default())? {
            Some(Value::String(url)) => Ok(url),
            _ => Err(self.unexpected("a URL")),
        }
    }

    /// Parses a value and evaluates its signals. `None` is `undefined`.
    fn value(&mut self, signals: &SignalTree) -> Result<Option<Value>, Failure> {
        self.skip();
        if self.consume(EVENT_ID_EXPRESSION) {
            return Ok(Some(EventId::random().to_string().into()));
        }
        let value = match self.rest.chars().next() {
            Some('\'' | '"') => Value::String(self.string()?),
            Some('{') => return self.object(signals).map(Some),
            Some('[') => return self.array(signals).map(Some),
            Some('$') => {
                self.consume("$");
                let path = self.word();
                if self.consume("?") {
                    let (yes, no) = (self.value(signals)?, self.consume(":").then(|| self.value(signals)));
                    let no = no.ok_or_else(|| self.unexpected("`:`"))??;
                    return Ok(if truthy(signals.get(path)) { yes } else { no });
                }
                // Datastar creates a missing signal as `""` when it is read.
                signals.get(path).cloned().unwrap_or_else(|| "".into())
            }
            _ => {
                let word = self.word();
                match word {
                    "true" => true.into(),
                    "false" => false.into(),
                    "null" => Value::Null,
                    "undefined" => return Ok(None),
                    number => serde_json::from_str::<serde_json::Number>(number)
                        .map_err(|_| self.unexpected("a literal or a signal"))?
                        .into(),
                }
            }
        };
        Ok(Some(value))
    }

    fn object(&mut self, signals: &SignalTree) -> Result<Value, Failure> {
        self.consume("{");
        let mut object = Map::new();
        while !self.consume("}") {
            self.skip();
            let quoted = self.rest.starts_with(['\'', '"']);
            let name = if quoted { self.string()? } else { self.word().to_owned() };
            if name.is_empty() || !self.consume(":") {
                return Err(self.unexpected("a field"));
            }
            if let Some(value) = self.value(signals)? {
                object.insert(name, value);
            }
            if !self.consume(",") && !self.rest.trim_start().starts_with('}') {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
        Ok(Value::Object(object))
    }

    fn array(&mut self, signals: &SignalTree) -> Result<Value, Failure> {
        self.consume("[");
        let mut items = Vec::new();
        while !self.consume("]") {
            items.push(self.value(signals)?.unwrap_or_default());
            if !self.consume(",") && !self.rest.trim_start().starts_with(']') {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
        Ok(Value::Array(items))
    }

    fn string(&mut self) -> Result<String, Failure> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        // UTF-16, because an escape may be half of a surrogate pair.
        let mut units = Vec::new();
        while let Some((at, char)) = chars.next() {
            if Some(char) == quote {
                self.rest = &self.rest[at + char.len_utf8()..];
                return Ok(String::from_utf16_lossy(&units));
            }
            if char != '\\' {
                units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
                continue;
            }
            let unit = match chars.next().map(|(_, char)| char) {
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                    u16::from_str_radix(&digits, 16).ok()
                }
                Some('n') => Some(u16::from(b'\n')),
                Some('r') => Some(u16::from(b'\r')),
                Some('t') => Some(u16::from(b'\t')),
                Some('b') => Some(8),
                Some('v') => Some(11),
                Some('f') => Some(12),
                Some('0') => Some(0),
                Some(char) => u16::try_from(u32::from(char)).ok(),
                None => None,
            };
            units.push(unit.ok_or_else(|| self.unexpected("an escape"))?);
        }
        Err(self.unexpected("the end of a string"))
    }

    /// Parses a name, a path or a number.
    fn word(&mut self) -> &'a str {
        let is_number = self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        let signs = |c: char| is_number && matches!(c, '-' | '+');
        let ends = |c: char| !(in_path(c) || signs(c));
        let (word, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn consume(&mut self, text: &str) -> bool {
        self.skip();
        let after = self.rest.strip_prefix(text);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn unexpected(&self, expected: &str) -> Failure {
        let at = self.text.len() - self.rest.len();
        let (read, rest) = (&self.text[..at], &self.text[at..]);
        Failure::new(
            "a page contains only expressions that this kit can parse: those that FastState writes",
            format!("expected {expected} where `{read}` continues with `{rest}`"),
        )
    }
}

fn in_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

#[cfg(test)]
mod tests {
    use faststate_core::{Action, internal::attribute};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn signals() -> SignalTree {
        let mut signals = SignalTree::default();
        signals.set("form.price", 5.into());
        signals.set("form.name", "x".into());
        signals.set("touched.price", true.into());
        signals
    }

    #[test]
    fn action_sends_what_the_bundle_sends() {
        let action = Action::new(
            &Method::PUT,
            "product",
            "reprice",
            None,
            Ok(json!({"price": 0, "note": "it's; $x"})),
        )
        .on("p 1")
        .bind("price", "form.price")
        .bind("missing", "nothing.here")
        .bind_if("kept", "form.price", "touched.price")
        .bind_if("left", "form.name", "touched.name");
        let sent = Script::new(&action.to_string()).action(&signals()).unwrap();
        assert_eq!((sent.method, &*sent.url), (Method::PUT, "/faststate/product/p%201/reprice"));
        assert_eq!(sent.payload, Some(json!({"note": "it's; $x", "price": 5, "missing": "", "kept": 5})));
        assert_eq!(sent.headers[1], ("Faststate-Follows".to_owned(), "product:p%201".to_owned()));
        assert!(sent.headers[0].0 == "Faststate-Event" && sent.headers[0].1.parse::<EventId>().is_ok());
    }

    #[test]
    fn action_is_found_among_statements() {
        let text = "evt.preventDefault(); $open = false; @delete(\"/x\")";
        let sent = Script::new(text).action(&signals()).unwrap();
        assert_eq!((sent.method, &*sent.url, sent.payload), (Method::DELETE, "/x", None));
        let follow = Script::new(&Action::follow("/faststate/sse?states=a,b")).followed().unwrap();
        assert_eq!(follow, "/faststate/sse?states=a,b");
    }

    #[test]
    fn condition_on_one_signal_selects_the_action() {
        let url = |text: &str| Script::new(text).action(&signals()).map(|sent| sent.url).ok();
        assert_eq!(url("$x = 1; $touched.price ? @post('/yes') : @post('/no')").as_deref(), Some("/yes"));
        assert_eq!(url("!$touched.price ? @post('/yes') : @post('/no')").as_deref(), Some("/no"));
        assert_eq!(url("$touched.price && @post('/yes')").as_deref(), Some("/yes"));
        assert_eq!(url("$touched.name && @post('/yes')"), None);
        assert_eq!(url("$mail = 'a@b'; $touched.name && @post('/yes')"), None);
        assert_eq!(url("$form.price > 4 ? @post('/yes') : @post('/no')"), None);
    }

    #[test]
    fn unsupported_expression_is_reported_with_its_position() {
        for bad in ["$count++", "@post('/x',{payload:$a+1})", "@post('/x'", "@post(url)"] {
            let failure = Script::new(bad).action(&signals()).unwrap_err().to_string();
            assert!(failure.contains("continues with") || failure.contains("literal"), "{failure}");
        }
        assert!(
            Script::new("{a:1} + 1").literal(&signals()).is_err()
                && Script::new("{a 1}").literal(&signals()).is_err()
        );
        assert_eq!(
            Script::new("{a: [1, 'b\\n\\b\\'',], c: null}").literal(&signals()).unwrap(),
            json!({"a": [1, "b\n\u{8}'"], "c": null})
        );
    }

    proptest! {
        #[test]
        fn written_literal_is_parsed_unchanged(text in "(?s).*", number in -1_000_000_i64..1_000_000) {
            let written = json!({ "a": { "text": text, "n": number }, "list": [true, number] });
            prop_assert_eq!(Script::new(&attribute(&written)).literal(&signals()).unwrap(), written);
        }
    }
}

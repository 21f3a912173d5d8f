//! Actions, which are the expressions of `data-on:*` attributes.

mod follow;

use std::fmt;

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{
    key::pollutes,
    literal::{push_text, push_value, separated},
};

/// The place of the id in a path.
const ID_PLACEHOLDER: &str = "{id}";

/// The characters that a URL's path and query cannot contain unescaped, and those that would end a quoted text.
const URL: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'\'').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'|');

/// A function `(url, send)` that calls the `send` functions of each URL one after the other.
///
/// A map keeps the functions that wait for a URL, by the element that sends. A map's iterator also reaches entries that
/// are added during the iteration. An element that sends again moves to the end, with its newest values.
pub const IN_ORDER: &str = "(u,f)=>{\
    let m=(document.faststate??={})[u]??=new Map;\
    m.delete(el);m.set(el,f);\
    m.busy||(m.busy=true,(async()=>{\
    for(let[e,g]of m){m.delete(e);await g().catch(console.error)}\
    m.busy=false})())}";

/// A Datastar action that sends an event. Its `Display` is the value of a `data-on:*` attribute.
///
/// The browser repeats the request, as the same event, for about three minutes while the network fails or a proxy in
/// front of the application responds with a 4xx or 5xx, for example because it finds no node. FastState itself sends
/// Datastar a 200 even if it refuses an event, so that the page shows the refusal and the event is not repeated.
///
/// The text contains neither `"` nor `&`, so it has the same meaning inside double quotes whether or not a template
/// escapes it. If an action cannot be written, because its input does not serialise or a signal's name is illegal, it
/// only logs the mistake to the browser's console.
///
/// ```
/// # use faststate_core::{Context, Event, ReactiveState, Rejection};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)]
/// # struct Product { price: i64 }
/// # impl ReactiveState for Product { const NAME: &'static str = "product"; }
/// # #[derive(Serialize, Deserialize)]
/// # struct Reprice { price: i64 }
/// # impl Event for Reprice {
/// #     type State = Product;
/// #     const NAME: &'static str = "reprice";
/// #     fn apply(&self, _: &mut Product, _: &mut Context<Product>) -> Result<(), Rejection> { Ok(()) }
/// # }
/// let click = Reprice { price: 0 }.action().on("p1").bind("price", "form.price").to_string();
/// assert!(click.starts_with("@post('/faststate/product/p1/reprice',{payload:{'price':$form.price}"));
/// ```
#[derive(Clone, Debug)]
pub struct Action {
    method: Method,
    state: String,
    event: String,
    path: Option<String>,
    id: Option<String>,
    input: Vec<(String, Source)>,
    follows: bool,
    in_order: bool,
    mistake: Option<String>,
}

/// The source of a field of the input.
#[derive(Clone, Debug)]
enum Source {
    /// The event's own value.
    Event(Value),
    /// A signal.
    Signal(String),
    /// A signal; the field is omitted unless the second signal is true.
    SignalIf(String, String),
}

impl Action {
    /// Creates the action of an event of a state, with its serialised input or the error of serialising it.
    #[doc(hidden)]
    #[must_use]
    pub fn new(
        method: &Method,
        state: &str,
        event: &str,
        path: Option<&str>,
        input: Result<Value, serde_json::Error>,
    ) -> Self {
        let (input, mistake) = match input {
            Ok(Value::Object(map)) => (map.into_iter().collect(), None),
            Ok(Value::Null) => (Vec::new(), None),
            Ok(_) => (Vec::new(), Some("the event is not a struct with named fields".to_owned())),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let reserved = input.iter().find_map(|(name, value)| reserved_name(name, value));
        let mistake = mistake.or_else(|| reserved.map(|name| format!("`{name}` is a reserved name")));
        let input = input.into_iter().map(|(name, value)| (name, Source::Event(value))).collect();
        Self {
            method: method.clone(),
            state: state.to_owned(),
            event: event.to_owned(),
            path: path.map(str::to_owned),
            id: None,
            input,
            follows: true,
            in_order: false,
            mistake,
        }
    }

    /// Sends the event to the record or component with this id.
    #[must_use]
    pub fn on(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Takes the field from a signal when the action runs, instead of from the event. `signal` is a path without `$`,
    /// such as `step` or `form.amount`.
    #[must_use]
    pub fn bind(mut self, field: &str, signal: &str) -> Self {
        if pollutes(field) || !is_signal(signal) {
            self.mistake =
                Some(format!("`{signal}` cannot be bound to `{field}`: a signal is `name` or `name.name`"));
            return self;
        }
        self.input.retain(|(name, _)| name != field);
        self.input.push((field.to_owned(), Source::Signal(signal.to_owned())));
        self
    }

    /// Like [`bind`](Self::bind), but omits the field unless the signal `condition` is true when the action runs. Use
    /// it for a form that sends only the fields that the user has edited.
    #[must_use]
    pub fn bind_if(self, field: &str, signal: &str, condition: &str) -> Self {
        let mut bound = self.bind(field, signal).bind(field, condition);
        if let Some((_, source)) = bound.input.last_mut() {
            *source = Source::SignalIf(signal.to_owned(), condition.to_owned());
        }
        bound
    }

    /// Requests the state's signals in the reply, for a page that does not follow the state.
    #[must_use]
    pub const fn with_reply(mut self) -> Self {
        self.follows = false;
        self
    }

    /// Sends the events of this kind from one page to one instance one after the other, for a field that is saved while
    /// it is edited. The next event is sent after the previous one was answered, or was given up after some minutes.
    ///
    /// A save that is slow, or that is repeated after a proxy's 502, is therefore never applied after a newer one. A
    /// waiting event takes its fields when it is sent. If several events of one element wait, only the last one is
    /// sent. Use it for events that set a value, not for events that add to one.
    #[must_use]
    pub const fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// Writes the expression, or returns the mistake that prevents it.
    fn write(&self) -> Result<String, String> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        let verb = match self.method {
            Method::GET => "get",
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => return Err(format!("Datastar cannot send {}", self.method)),
        };
        let url = self.url()?;
        let mut out = String::with_capacity(if self.in_order { 640 } else { 320 });
        if self.in_order {
            out.extend(["(", IN_ORDER, ")("]);
            push_url(&mut out, &url);
            out.push_str(",()=>");
        }
        out.push('@');
        out.push_str(verb);
        out.push('(');
        push_url(&mut out, &url);
        out.push_str(",{payload:{");
        separated(&mut out, &self.input, |out, (name, source)| {
            push_text(out, name);
            out.push(':');
            match source {
                Source::Event(value) => push_value(out, value, "null"),
                Source::Signal(signal) => {
                    out.push('$');
                    out.push_str(signal);
                }
                // JSON omits a field whose value is `undefined`.
                Source::SignalIf(signal, condition) => {
                    out.extend(["$", condition, "?$", signal, ":undefined"]);
                }
            }
        });
        out.push_str(
            "},requestCancellation:'disabled',retry:'error',headers:{'Faststate-Event':\
             [...crypto.getRandomValues(new Uint32Array(4))].join('-')",
        );
        if self.follows {
            out.push_str(",'Faststate-Follows':");
            push_text(&mut out, &self.topic());
        }
        out.push_str("}})");
        if self.in_order {
            out.push(')');
        }
        Ok(out)
    }

    fn url(&self) -> Result<String, String> {
        let id = match self.id.as_deref() {
            // A browser treats these as steps in the path, even if they are percent-encoded.
            Some("" | "." | "..") => return Err("an id in a URL cannot be empty, `.` or `..`".to_owned()),
            id => id.map(|id| utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()),
        };
        match (self.path.as_deref(), id) {
            (None, None) => Ok(format!("/faststate/{}/{}", self.state, self.event)),
            (None, Some(id)) => Ok(format!("/faststate/{}/{id}/{}", self.state, self.event)),
            (Some(path), Some(id)) if path.contains(ID_PLACEHOLDER) => Ok(path.replace(ID_PLACEHOLDER, &id)),
            (Some(path), None) if !path.contains(ID_PLACEHOLDER) => Ok(path.to_owned()),
            (Some(path), Some(_)) => Err(format!("the path {path} has no place for an id")),
            (Some(path), None) => Err(format!("the path {path} needs an id: call `on`")),
        }
    }

    /// Returns the topic that the page follows, as the stream's URL names it.
    #[doc(hidden)]
    #[must_use]
    pub fn topic(&self) -> String {
        match &self.id {
            Some(id) => format!("{}:{}", self.state, utf8_percent_encode(id, NON_ALPHANUMERIC)),
            None => self.state.clone(),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = self.write().unwrap_or_else(|mistake| {
            let mut out = "console.error(".to_owned();
            push_text(
                &mut out,
                &format!("FastState: {}.{} cannot be sent: {mistake}", self.state, self.event),
            );
            out.push(')');
            out
        });
        f.write_str(&action)
    }
}

fn push_url(out: &mut String, url: &str) {
    push_text(out, &utf8_percent_encode(url, URL).to_string());
}

/// Returns whether a path matches `[A-Za-z_]\w*(\.\w+)*` and contains no name that would pollute a prototype.
fn is_signal(path: &str) -> bool {
    path.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !pollutes(path)
        && path.split('.').all(|segment| {
            !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
}

/// Returns the first name, at any depth, that would pollute a prototype.
fn reserved_name(name: &str, value: &Value) -> Option<String> {
    if pollutes(name) {
        return Some(name.to_owned());
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| reserved_name("", item)),
        Value::Object(map) => map.iter().find_map(|(name, value)| reserved_name(name, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests;

//! The string for `data-on:*`.

mod follow;

use std::fmt;

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{
    key::pollutes,
    literal::{push_text, push_value, separated},
};

/// What `{id}` in a path stands for.
const ID: &str = "{id}";

/// What a URL's path and query cannot hold as it is, and what a quote around it would end at.
const URL: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'\'').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'|');

/// `(url, send)`: what waits for each URL, by the element that sends it. A map's iterator also reaches what is
/// added meanwhile; an element that asks again goes to the end, with its newest values.
pub const IN_ORDER: &str = "(u,f)=>{\
    let m=(document.faststate??={})[u]??=new Map;\
    m.delete(el);m.set(el,f);\
    m.busy||(m.busy=true,(async()=>{\
    for(let[e,g]of m){m.delete(e);await g().catch(console.error)}\
    m.busy=false})())}";

/// A Datastar action that sends an event: its `Display` is the value of a `data-on:*` attribute.
///
/// The browser repeats it, as the same event, for about three minutes while the network fails or a proxy in front of
/// the application responds with a 4xx or 5xx, for example because it finds no node. FastState itself answers
/// Datastar with a 200, also when it refuses an event, so that the refusal is shown and the event is not repeated.
///
/// It contains neither `"` nor `&`, so that it means the same escaped by a template and raw inside double
/// quotes. What cannot be written (an input that does not serialise, an illegal signal) becomes an
/// action that does nothing but say so in the browser's console.
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

/// Where a field of the input comes from.
#[derive(Clone, Debug)]
enum Source {
    Event(Value),
    Signal(String),
    /// A signal, left out unless the second one is true.
    SignalIf(String, String),
}

impl Action {
    /// The action of an event of a state, with its input or why it cannot be written.
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
            Ok(_) => (Vec::new(), Some("it is not a struct with named fields".to_owned())),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let reserved = input.iter().find_map(|(name, value)| reserved(name, value));
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

    /// For the record or component with this id.
    #[must_use]
    pub fn on(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Takes the field from a signal at the moment of the action, instead of from the event: `signal` is
    /// a path without `$`, such as `step` or `form.amount`.
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

    /// Like [`bind`](Self::bind), and leaves the field out unless the signal `condition` is true at that
    /// moment: for a form that sends only what was touched.
    #[must_use]
    pub fn bind_if(self, field: &str, signal: &str, condition: &str) -> Self {
        let mut bound = self.bind(field, signal).bind(field, condition);
        if let Some((_, source)) = bound.input.last_mut() {
            *source = Source::SignalIf(signal.to_owned(), condition.to_owned());
        }
        bound
    }

    /// For a page that does not follow the state: the reply carries the state's signals.
    #[must_use]
    pub const fn with_reply(mut self) -> Self {
        self.follows = false;
        self
    }

    /// For a field that is saved as it is edited: the page sends this event to this instance again only after the
    /// last one is answered, or given up after some minutes.
    ///
    /// A save that is slow, or that is repeated after a proxy's 502, is therefore never applied after a newer one.
    /// A save that waits takes its fields at the moment when it is sent. Of several that wait for one element,
    /// the last is sent. So it is for events that say what a value is to be, and not for those that add to it.
    #[must_use]
    pub const fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

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
                // JSON leaves out what is undefined.
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
            // A browser takes them for steps in the path, percent-encoded too.
            Some("" | "." | "..") => return Err("an id in a URL cannot be empty, `.` or `..`".to_owned()),
            id => id.map(|id| utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()),
        };
        match (self.path.as_deref(), id) {
            (None, None) => Ok(format!("/faststate/{}/{}", self.state, self.event)),
            (None, Some(id)) => Ok(format!("/faststate/{}/{id}/{}", self.state, self.event)),
            (Some(path), Some(id)) if path.contains(ID) => Ok(path.replace(ID, &id)),
            (Some(path), None) if !path.contains(ID) => Ok(path.to_owned()),
            (Some(path), Some(_)) => Err(format!("the path {path} has no place for an id")),
            (Some(path), None) => Err(format!("the path {path} needs an id: call `on`")),
        }
    }

    /// The topic that the page follows, as the stream's URL names it.
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

/// Whether this is `[A-Za-z_]\w*(\.\w+)*` and names nothing that JavaScript reserves.
fn is_signal(path: &str) -> bool {
    path.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !pollutes(path)
        && path.split('.').all(|segment| {
            !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
}

/// The first name at any depth that would pollute a prototype.
fn reserved(name: &str, value: &Value) -> Option<String> {
    if pollutes(name) {
        return Some(name.to_owned());
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| reserved("", item)),
        Value::Object(map) => map.iter().find_map(|(name, value)| reserved(name, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests;

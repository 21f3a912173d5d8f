//! A page's elements, as far as views need them: found by id, changed by Datastar's patch modes.

use std::fmt;

use super::{Failure, ensure};

/// Elements and texts, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dom {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Text(String),
    Element(Element),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Element {
    /// The start tag as it is written, without `<` and `>`.
    tag: String,
    id: Option<String>,
    is_void: bool,
    children: Vec<Node>,
}

const PROMISE: &str = "elements are HTML that fits the page";

impl Dom {
    pub(super) fn parse(html: &str) -> Result<Self, Failure> {
        let mut rest = html;
        let nodes = children(&mut rest, None)?;
        ensure!(rest.is_empty(), PROMISE, "{rest:?} closes nothing");
        Ok(Self { nodes })
    }

    pub(super) fn append(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
    }

    /// Patches elements as Datastar does, for the selectors that name an id.
    pub(super) fn patch(&mut self, mode: &str, selector: &str, html: &str) -> Result<(), Failure> {
        let new = Self::parse(html)?.nodes;
        if selector.is_empty() {
            ensure!(matches!(mode, "outer" | "replace"), PROMISE, "{mode} asks for a selector");
            for node in new {
                let Node::Element(element) = &node else { continue };
                let Some(id) = element.id.clone() else {
                    return Err(Failure::new(PROMISE, format!("<{}> has no id to be found by", element.tag)));
                };
                ensure!(
                    put(&mut self.nodes, &id, "outer", &[node]),
                    PROMISE,
                    "nothing on the page has the id {id:?}"
                );
            }
            return Ok(());
        }
        let id = id_of(selector)?;
        if mode == "remove" {
            // All that have the id; in a replay none may be left.
            while put(&mut self.nodes, &id, mode, &new) {}
            return Ok(());
        }
        let found = put(&mut self.nodes, &id, mode, &new);
        ensure!(found, PROMISE, "nothing on the page has the id {id:?} for {mode}");
        Ok(())
    }
}

impl fmt::Display for Dom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| node.fmt(f))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Element(element) => {
                write!(f, "<{}>", element.tag)?;
                element.children.iter().try_for_each(|node| node.fmt(f))?;
                if element.is_void { Ok(()) } else { write!(f, "</{}>", name(&element.tag)) }
            }
        }
    }
}

/// Does what `mode` says to the element with this id, and says whether there was one.
fn put(nodes: &mut Vec<Node>, id: &str, mode: &str, new: &[Node]) -> bool {
    let mut at = 0;
    while at < nodes.len() {
        let Node::Element(element) = &mut nodes[at] else {
            at += 1;
            continue;
        };
        if element.id.as_deref() != Some(id) {
            if put(&mut element.children, id, mode, new) {
                return true;
            }
            at += 1;
            continue;
        }
        let new = new.iter().cloned();
        match mode {
            "outer" | "replace" => drop(nodes.splice(at..=at, new)),
            "remove" => drop(nodes.remove(at)),
            "before" => drop(nodes.splice(at..at, new)),
            "after" => drop(nodes.splice(at + 1..at + 1, new)),
            "append" => element.children.extend(new),
            "prepend" => drop(element.children.splice(0..0, new)),
            _ => element.children = new.collect(),
        }
        return true;
    }
    false
}

/// The id that a selector names: `#id` with CSS escapes, or `[id="id"]`.
fn id_of(selector: &str) -> Result<String, Failure> {
    let quoted = selector.strip_prefix("[id=\"").and_then(|rest| rest.strip_suffix("\"]"));
    let escaped = quoted.or_else(|| selector.strip_prefix('#'));
    let Some(escaped) = escaped.filter(|id| !id.is_empty()) else {
        return Err(Failure::new(
            PROMISE,
            format!("the page of this suite finds ids only, not {selector:?}"),
        ));
    };
    let mut id = String::new();
    let mut chars = escaped.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '\\' {
            id.push(char);
            continue;
        }
        let mut digits = String::new();
        while digits.len() < 6
            && let Some(digit) = chars.next_if(char::is_ascii_hexdigit)
        {
            digits.push(digit);
        }
        if digits.is_empty() {
            id.extend(chars.next());
        } else {
            id.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
            chars.next_if_eq(&' ');
        }
    }
    Ok(id)
}

/// Reads nodes up to the end tag of `parent`, or to the end.
fn children(rest: &mut &str, parent: Option<&str>) -> Result<Vec<Node>, Failure> {
    let mut nodes = Vec::new();
    loop {
        let (text, tag) = rest.split_once('<').unwrap_or((rest, ""));
        if !text.is_empty() {
            nodes.push(Node::Text(text.to_owned()));
        }
        if tag.is_empty() && text.len() == rest.len() {
            *rest = "";
            let Some(parent) = parent else { return Ok(nodes) };
            return Err(Failure::new(PROMISE, format!("<{parent}> is never closed")));
        }
        let Some((tag, after)) = split_tag(tag) else {
            return Err(Failure::new(PROMISE, format!("<{tag} is no tag")));
        };
        *rest = after;
        if let Some(end) = tag.strip_prefix('/') {
            ensure!(parent == Some(end.trim()), PROMISE, "</{end}> closes {parent:?}");
            return Ok(nodes);
        }
        let is_void =
            matches!(name(tag), "br" | "hr" | "img" | "input" | "link" | "meta") || tag.ends_with('/');
        let children = if is_void { Vec::new() } else { children(rest, Some(name(tag)))? };
        nodes.push(Node::Element(Element {
            tag: tag.to_owned(),
            id: attribute(tag, "id"),
            is_void,
            children,
        }));
    }
}

/// Splits behind the `>` that ends the tag, which is not inside quotes.
fn split_tag(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, char) in text.char_indices() {
        match (quote, char) {
            (None, '>') => return Some((&text[..at], &text[at + 1..])),
            (None, '"' | '\'') => quote = Some(char),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    None
}

fn name(tag: &str) -> &str {
    tag.split([' ', '/', '\n', '\t']).next().unwrap_or_default()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}="))?;
    let quoted = ['"', '\''].into_iter().find_map(|quote| rest.strip_prefix(quote)?.split(quote).next());
    Some(quoted.unwrap_or_else(|| rest.split([' ', '/']).next().unwrap_or_default()).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        r#"<main id="m"><ul id="list" class="a>b"><li id="one">1</li></ul><br><p>text</p></main>"#;

    #[test]
    fn a_page_is_written_as_it_was_read() {
        assert_eq!(Dom::parse(PAGE).unwrap().to_string(), PAGE);
        for bad in ["<p>", "</p>", "<p></b>", "<p", "<"] {
            assert!(Dom::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_that_have_the_id_are_removed() {
        let mut dom = Dom::parse(r#"<p id="one">1</p><ul><li id="one">2</li><li>3</li></ul>"#).unwrap();
        dom.patch("remove", "#one", "").unwrap();
        assert_eq!(dom.to_string(), "<ul><li>3</li></ul>");
    }

    #[test]
    fn every_mode_does_what_datastar_does() {
        let patched = |mode: &str, selector: &str, html: &str| {
            let mut dom = Dom::parse(r#"<ul id="list"><li id="one">1</li></ul>"#).unwrap();
            dom.patch(mode, selector, html).map(|()| dom.to_string().replace(" id=", ""))
        };
        let new = r#"<li id="2">2</li>"#;
        for (mode, selector, expected) in [
            ("append", "#list", r#"<ul"list"><li"one">1</li><li"2">2</li></ul>"#),
            ("prepend", "#list", r#"<ul"list"><li"2">2</li><li"one">1</li></ul>"#),
            ("before", "#one", r#"<ul"list"><li"2">2</li><li"one">1</li></ul>"#),
            ("after", "#one", r#"<ul"list"><li"one">1</li><li"2">2</li></ul>"#),
            ("inner", "#list", r#"<ul"list"><li"2">2</li></ul>"#),
            ("replace", "#list", r#"<li"2">2</li>"#),
            ("remove", "[id=\"one\"]", r#"<ul"list"></ul>"#),
            ("remove", "#\\6fne", r#"<ul"list"></ul>"#),
            ("remove", "#nobody", r#"<ul"list"><li"one">1</li></ul>"#),
        ] {
            assert_eq!(patched(mode, selector, new).as_deref(), Ok(expected), "{mode}");
        }
        assert_eq!(
            patched("outer", "", r#"<li id="one">!</li>"#).as_deref(),
            Ok(r#"<ul"list"><li"one">!</li></ul>"#)
        );
        assert!(patched("outer", "", new).is_err() && patched("append", "#nobody", new).is_err());
        assert!(patched("append", "", new).is_err() && patched("inner", "ul li", new).is_err());
    }
}

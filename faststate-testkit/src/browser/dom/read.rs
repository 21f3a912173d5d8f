//! An HTML parser.

use super::{DomNode, Element, PROMISE};
use crate::{Failure, ensure};

/// Parses nodes. `strict` requires every tag to be closed; otherwise the parser is as lenient as a browser.
pub(super) fn nodes(html: &str, strict: bool) -> Result<Vec<DomNode>, Failure> {
    let mut tree = Tree::default();
    let mut rest = html;
    while !rest.is_empty() {
        let (text, tagged) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        if !text.is_empty() {
            tree.add(DomNode::Text(text.to_owned()));
        }
        let Some(tag) = tagged.strip_prefix('<') else { break };
        if let Some(other) = other(tagged) {
            tree.add(DomNode::Other(tagged[..other].to_owned()));
            rest = &tagged[other..];
            continue;
        }
        let Some((tag, after)) = split_tag(tag) else {
            ensure!(!strict, PROMISE, "<{tag} is not a tag");
            break;
        };
        rest = after;
        if let Some(end) = tag.strip_prefix('/') {
            let closed = tree.close(&name(end), strict);
            ensure!(closed || !strict, PROMISE, "</{end}> closes {:?}", tree.innermost());
            continue;
        }
        let mut element = Element::new(tag, Vec::new());
        if !strict {
            tree.close_before(&element.name);
        }
        element.is_void = is_void(&element.name) || tag.ends_with('/');
        if matches!(&*element.name, "script" | "style" | "textarea" | "title") && !element.is_void {
            let end = find_end(rest, &element.name);
            ensure!(end.is_some() || !strict, PROMISE, "<{tag}> is never closed");
            let end = end.unwrap_or(rest.len());
            element.children.push(DomNode::Text(rest[..end].to_owned()));
            rest = split_tag(&rest[end..]).map_or("", |(_, after)| after);
        } else if !element.is_void {
            tree.open.push(element);
            continue;
        }
        tree.add(DomNode::Element(element));
    }
    ensure!(!strict || tree.open.is_empty(), PROMISE, "<{}> is never closed", tree.innermost());
    while tree.close_innermost() {}
    Ok(tree.nodes)
}

/// The parsed nodes, and the open elements around the next node.
#[derive(Default)]
struct Tree {
    nodes: Vec<DomNode>,
    open: Vec<Element>,
}

impl Tree {
    fn add(&mut self, node: DomNode) {
        match self.open.last_mut() {
            Some(element) => element.children.push(node),
            None => self.nodes.push(node),
        }
    }

    fn innermost(&self) -> &str {
        self.open.last().map_or("nothing", |element| &element.name)
    }

    fn close_innermost(&mut self) -> bool {
        let Some(element) = self.open.pop() else { return false };
        self.add(DomNode::Element(element));
        true
    }

    /// Closes the innermost element of this name, and the open elements inside it unless `strict`.
    fn close(&mut self, name: &str, strict: bool) -> bool {
        let Some(at) = self.open.iter().rposition(|element| element.name == name) else { return false };
        if strict && at + 1 != self.open.len() {
            return false;
        }
        while self.open.len() > at {
            self.close_innermost();
        }
        true
    }

    /// Closes the elements that the start of this element ends.
    fn close_before(&mut self, name: &str) {
        let ends = |open: &str| match name {
            "li" => open == "li",
            "dt" | "dd" => matches!(open, "dt" | "dd"),
            "option" => open == "option",
            "td" | "th" => matches!(open, "td" | "th"),
            "tr" => matches!(open, "td" | "th" | "tr"),
            "body" => open == "head",
            "article" | "aside" | "blockquote" | "div" | "dl" | "fieldset" | "footer" | "form" | "h1"
            | "h2" | "h3" | "h4" | "h5" | "h6" | "header" | "hr" | "main" | "nav" | "ol" | "p" | "pre"
            | "section" | "table" | "ul" => open == "p",
            _ => false,
        };
        while self.open.last().is_some_and(|element| ends(&element.name)) {
            self.close_innermost();
        }
    }
}

/// Returns the length of a comment or declaration at the start of the text.
fn other(text: &str) -> Option<usize> {
    if text.starts_with("<!--") {
        return Some(text.find("-->").map_or(text.len(), |end| end + 3));
    }
    text.starts_with("<!").then(|| text.find('>').map_or(text.len(), |end| end + 1))
}

/// Returns the position of the end tag of this name.
fn find_end(text: &str, name: &str) -> Option<usize> {
    text.match_indices("</")
        .map(|(at, _)| at)
        .find(|at| text.get(at + 2..at + 2 + name.len()).is_some_and(|end| end.eq_ignore_ascii_case(name)))
}

/// Splits the text after the `>` that ends the tag, ignoring quoted ones.
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

fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Returns the name of a tag.
pub(super) fn name(tag: &str) -> String {
    let name = tag.split(|c: char| c.is_ascii_whitespace() || c == '/').next().unwrap_or_default();
    name.to_ascii_lowercase()
}

/// Parses the attributes of a start tag.
pub(super) fn attributes(tag: &str) -> Vec<(String, String)> {
    let space = |c: char| c.is_ascii_whitespace() || c == '/';
    let mut found = Vec::new();
    let mut rest = tag.trim_start_matches(|c| !space(c));
    loop {
        rest = rest.trim_start_matches(space);
        let (name, after) = rest.split_at(rest.find(|c| space(c) || c == '=').unwrap_or(rest.len()));
        if name.is_empty() {
            return found;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            found.push((name.to_ascii_lowercase(), String::new()));
            rest = after;
            continue;
        };
        let value = value.trim_start();
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.split_once(quote));
        let (value, after) = quoted.unwrap_or_else(|| {
            value.split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len()))
        });
        found.push((name.to_ascii_lowercase(), decoded(value)));
        rest = after;
    }
}

/// Decodes character references.
pub(super) fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let reference = after.split_once(';').and_then(|(name, after)| Some((character(name)?, after)));
        let (char, after) = reference.unwrap_or(('&', after));
        out.push(char);
        rest = after;
    }
    out + rest
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

//! A minimal DOM: elements are parsed, selected, and changed by Datastar's patch modes.

mod read;
mod select;
mod text;

use std::fmt;

use self::select::Selector;
pub(super) use self::text::{plain, truthy};
use crate::{Failure, ensure};

/// A list of nodes in document order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dom {
    nodes: Vec<DomNode>,
    /// Whether this is a document, which is parsed as leniently as browsers do.
    document: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DomNode {
    Text(String),
    /// A comment or a document type.
    Other(String),
    Element(Element),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// The source of the start tag, without `<` and `>`.
    tag: String,
    name: String,
    /// The names and values, with character references decoded.
    attributes: Vec<(String, String)>,
    is_void: bool,
    children: Vec<DomNode>,
}

const PROMISE: &str = "patched elements are valid HTML";

impl Dom {
    /// Parses the elements of a view, in which every tag is closed.
    pub(super) fn parse(html: &str) -> Result<Self, Failure> {
        Ok(Self { nodes: read::nodes(html, true)?, document: false })
    }

    /// Parses a document.
    pub(super) fn document(html: &str) -> Self {
        // The lenient mode never fails.
        let nodes = read::nodes(html, false).unwrap_or_default();
        let mut dom = Self { nodes, document: true };
        if Selector::parse("body").is_ok_and(|body| body.all(&dom.nodes).is_empty()) {
            dom.nodes = vec![DomNode::Element(Element::new("body", std::mem::take(&mut dom.nodes)))];
        }
        dom
    }

    pub(super) fn append(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
    }

    /// Returns the elements that match a selector, in document order.
    pub(super) fn find(&self, selector: &str) -> Result<Vec<&Element>, Failure> {
        Ok(Selector::parse(selector)?.all(&self.nodes))
    }

    /// Returns all elements in document order.
    pub(super) fn elements(&self) -> Vec<&Element> {
        Selector::any().all(&self.nodes)
    }

    /// Patches elements as Datastar does. Returns the error that Datastar writes to the console if a target is missing.
    pub(super) fn patch(
        &mut self,
        mode: &str,
        selector: &str,
        html: &str,
    ) -> Result<Option<String>, Failure> {
        let new = read::nodes(html, !self.document)?;
        if selector.is_empty() {
            ensure!(matches!(mode, "outer" | "replace"), PROMISE, "the mode {mode} needs a selector");
            let mut missing = None;
            for node in new {
                let DomNode::Element(element) = &node else { continue };
                let Some(id) = element.attribute("id").map(str::to_owned) else {
                    return Err(Failure::new(PROMISE, format!("<{}> has no id", element.tag)));
                };
                if apply_patch(&mut self.nodes, &Selector::id(&id), 0, "outer", &[node]) == 0 {
                    missing = Some(format!("no element has the id {id:?}"));
                }
            }
            return Ok(missing);
        }
        let found = apply_patch(&mut self.nodes, &Selector::parse(selector)?, 0, mode, &new);
        let missing = found == 0 && mode != "remove";
        Ok(missing.then(|| format!("no element matches {selector:?} for {mode}")))
    }
}

impl Element {
    fn new(tag: &str, children: Vec<DomNode>) -> Self {
        Self {
            tag: tag.to_owned(),
            name: read::name(tag),
            attributes: read::attributes(tag),
            is_void: false,
            children,
        }
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Returns the descendants with this element name.
    pub(super) fn find(&self, name: &str) -> Vec<&Self> {
        Selector::parse(name).map(|selector| selector.all(&self.children)).unwrap_or_default()
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Display for Dom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| node.fmt(f))
    }
}

impl fmt::Display for DomNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Other(text) => f.write_str(text),
            Self::Element(element) => element.fmt(f),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.tag)?;
        self.children.iter().try_for_each(|node| node.fmt(f))?;
        if self.is_void { Ok(()) } else { write!(f, "</{}>", self.name) }
    }
}

/// Applies a patch to every element that matches the selector, and returns their number. Ancestors of these nodes match the
/// first `matched` steps of the selector.
fn apply_patch(
    nodes: &mut Vec<DomNode>,
    selector: &Selector,
    matched: usize,
    mode: &str,
    new: &[DomNode],
) -> usize {
    let mut found = 0;
    let mut at = 0;
    while at < nodes.len() {
        let DomNode::Element(element) = &mut nodes[at] else {
            at += 1;
            continue;
        };
        if !selector.matches(element, matched) {
            let inside = selector.step(element, matched);
            found += apply_patch(&mut element.children, selector, inside, mode, new);
            at += 1;
            continue;
        }
        found += 1;
        let (new, many) = (new.iter().cloned(), new.len());
        match mode {
            "outer" | "replace" => {
                nodes.splice(at..=at, new);
                at += many;
            }
            "remove" => drop(nodes.remove(at)),
            "before" => {
                nodes.splice(at..at, new);
                at += many + 1;
            }
            "after" => {
                nodes.splice(at + 1..at + 1, new);
                at += many + 1;
            }
            "append" => {
                element.children.extend(new);
                at += 1;
            }
            "prepend" => {
                element.children.splice(0..0, new);
                at += 1;
            }
            _ => {
                element.children = new.collect();
                at += 1;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        r#"<main id="m"><ul id="list" class="a>b"><li id="one">1</li></ul><br><p>text</p></main>"#;

    #[test]
    fn parsed_page_is_printed_unchanged() {
        assert_eq!(Dom::parse(PAGE).unwrap().to_string(), PAGE);
        for bad in ["<p>", "</p>", "<p></b>", "<p", "<"] {
            assert!(Dom::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn remove_removes_all_elements_with_the_id() {
        let mut dom = Dom::parse(r#"<p id="one">1</p><ul><li id="one">2</li><li>3</li></ul>"#).unwrap();
        dom.patch("remove", "#one", "").unwrap();
        assert_eq!(dom.to_string(), "<ul><li>3</li></ul>");
    }

    #[test]
    fn patch_modes_match_datastar() {
        let patched = |mode: &str, selector: &str, html: &str| {
            let mut dom = Dom::parse(r#"<ul id="list"><li id="one">1</li></ul>"#).unwrap();
            dom.patch(mode, selector, html).map(|missing| (missing, dom.to_string().replace(" id=", "")))
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
            ("remove", "#missing", r#"<ul"list"><li"one">1</li></ul>"#),
        ] {
            assert_eq!(patched(mode, selector, new), Ok((None, expected.to_owned())), "{mode}");
        }
        assert_eq!(
            patched("outer", "", r#"<li id="one">!</li>"#),
            Ok((None, r#"<ul"list"><li"one">!</li></ul>"#.to_owned()))
        );
        assert_eq!(patched("inner", "ul li", "!").unwrap().1, r#"<ul"list"><li"one">!</li></ul>"#);
        for (mode, selector) in [("outer", ""), ("append", "#missing"), ("after", "ol li")] {
            assert!(patched(mode, selector, new).unwrap().0.is_some(), "{mode} {selector:?}");
        }
        assert!(patched("append", "", new).is_err() && patched("inner", "ul > li", new).is_err());
    }

    #[test]
    fn document_is_parsed_as_browsers_do() {
        let html = "<!doctype html><title>a <b> c</title><!-- <p> --><body data-x='1>2' class=a>\
                    <p>one<p>two<ul><li>a<li>b</ul><script>if (a<b) {}</script><input value=\"&lt;&#39;&#x26;\">";
        let dom = Dom::document(html);
        let texts = |selector: &str| {
            let found = dom.find(selector).unwrap();
            found.into_iter().map(|element| element.text(&|_| None)).collect::<Vec<_>>()
        };
        assert_eq!(texts("p"), ["one", "two"]);
        assert_eq!(texts("ul li"), ["a", "b"]);
        assert_eq!(texts("body.a ul"), ["a b"]);
        assert_eq!(texts("title"), ["a <b> c"]);
        assert_eq!(dom.find("input").unwrap()[0].attribute("value"), Some("<'&"));
        assert_eq!(dom.find("[data-x=\"1>2\"]").unwrap().len(), 1);
        assert_eq!(Dom::document("<p>no body").find("body p").unwrap().len(), 1);
    }
}

//! A subset of CSS selectors: names, ids, classes, attributes and descendants.

use super::{DomNode, Element, PROMISE};
use crate::{Failure, ensure};

/// A chain of descendant selectors, the outermost first.
pub(super) struct Selector(Vec<Compound>);

#[derive(Default)]
struct Compound(Vec<Condition>);

enum Condition {
    Name(String),
    Has(String),
    Is(String, String),
    Class(String),
}

impl Selector {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let mut chars = text.trim().chars().peekable();
        let mut steps = vec![Compound::default()];
        while let Some(char) = chars.next() {
            let condition = match char {
                '#' => Condition::Is("id".to_owned(), identifier(&mut chars)),
                '.' => Condition::Class(identifier(&mut chars)),
                '[' => {
                    let name = identifier(&mut chars);
                    let condition = match chars.next_if_eq(&'=') {
                        None => Condition::Has(name),
                        Some(_) => {
                            let quote = chars.next_if(|c| matches!(c, '"' | '\''));
                            Condition::Is(name, value(&mut chars, quote))
                        }
                    };
                    ensure!(chars.next() == Some(']'), PROMISE, "{text:?} has an unclosed bracket");
                    condition
                }
                ' ' => {
                    steps.push(Compound::default());
                    while chars.next_if_eq(&' ').is_some() {}
                    continue;
                }
                c if c.is_alphanumeric() => {
                    Condition::Name(format!("{c}{}", identifier(&mut chars)).to_ascii_lowercase())
                }
                _ => {
                    return Err(Failure::new(
                        PROMISE,
                        format!("only names, ids, classes and attributes are supported, not {text:?}"),
                    ));
                }
            };
            if let Some(step) = steps.last_mut() {
                step.0.push(condition);
            }
        }
        ensure!(steps.iter().all(|step| !step.0.is_empty()), PROMISE, "{text:?} is not a selector");
        Ok(Self(steps))
    }

    /// Selects the element with this id.
    pub(super) fn id(id: &str) -> Self {
        Self(vec![Compound(vec![Condition::Is("id".to_owned(), id.to_owned())])])
    }

    /// Selects every element.
    pub(super) fn any() -> Self {
        Self(vec![Compound::default()])
    }

    /// Returns whether the element matches, if its ancestors match the first `matched` steps.
    pub(super) fn matches(&self, element: &Element, matched: usize) -> bool {
        matched + 1 == self.0.len() && self.0[matched].matches(element)
    }

    /// Returns how many steps match for the children of this element.
    pub(super) fn step(&self, element: &Element, matched: usize) -> usize {
        matched + usize::from(matched + 1 < self.0.len() && self.0[matched].matches(element))
    }

    pub(super) fn all<'a>(&self, nodes: &'a [DomNode]) -> Vec<&'a Element> {
        let mut found = Vec::new();
        self.collect(nodes, 0, &mut found);
        found
    }

    fn collect<'a>(&self, nodes: &'a [DomNode], matched: usize, found: &mut Vec<&'a Element>) {
        for node in nodes {
            let DomNode::Element(element) = node else { continue };
            if self.matches(element, matched) {
                found.push(element);
            }
            self.collect(&element.children, self.step(element, matched), found);
        }
    }
}

impl Compound {
    fn matches(&self, element: &Element) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Name(name) => element.name == *name,
            Condition::Has(name) => element.attribute(name).is_some(),
            Condition::Is(name, value) => element.attribute(name) == Some(value),
            Condition::Class(class) => {
                element.attribute("class").is_some_and(|all| all.split_ascii_whitespace().any(|c| c == class))
            }
        })
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Parses a name with CSS escapes.
fn identifier(chars: &mut Chars<'_>) -> String {
    let mut name = String::new();
    while let Some(char) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '\\' | ':')) {
        if char == '\\' { name.extend(escaped(chars)) } else { name.push(char) }
    }
    name
}

/// Parses an attribute value up to its quote or bracket.
fn value(chars: &mut Chars<'_>, quote: Option<char>) -> String {
    let mut value = String::new();
    loop {
        match chars.next_if(|c| quote.map_or(*c != ']', |quote| *c != quote)) {
            Some('\\') => value.extend(escaped(chars)),
            Some(char) => value.push(char),
            None => {
                if quote.is_some() {
                    chars.next();
                }
                return value;
            }
        }
    }
}

/// Parses an escape after its backslash: a character or a hexadecimal code point.
fn escaped(chars: &mut Chars<'_>) -> Option<char> {
    let mut digits = String::new();
    while digits.len() < 6
        && let Some(digit) = chars.next_if(char::is_ascii_hexdigit)
    {
        digits.push(digit);
    }
    if digits.is_empty() {
        return chars.next();
    }
    chars.next_if_eq(&' ');
    u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)
}

//! HTML for the page, and where it goes.

use std::borrow::Cow;

/// How elements meet the page: Datastar's patch modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Morph the target itself (the default).
    #[default]
    Outer,
    /// Morph the target's content.
    Inner,
    /// Replace the target without morphing.
    Replace,
    /// Before the target's first child.
    Prepend,
    /// After the target's last child.
    Append,
    /// Before the target.
    Before,
    /// After the target.
    After,
    /// Take the target away.
    Remove,
}

impl Mode {
    /// The mode of this name on the wire.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let modes = [
            Self::Outer,
            Self::Inner,
            Self::Replace,
            Self::Prepend,
            Self::Append,
            Self::Before,
            Self::After,
            Self::Remove,
        ];
        modes.into_iter().find(|mode| mode.as_str() == name)
    }

    /// The mode's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
            Self::Replace => "replace",
            Self::Prepend => "prepend",
            Self::Append => "append",
            Self::Before => "before",
            Self::After => "after",
            Self::Remove => "remove",
        }
    }
}

/// A piece of HTML and where it goes on the page.
///
/// The HTML is the application's: escape what people wrote (askama does). A `<script>` in it runs.
/// Line ends are normalised on the wire, so that no text can start a new SSE line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements {
    pub(crate) mode: Mode,
    pub(crate) selector: Cow<'static, str>,
    pub(crate) html: String,
    /// The id of an element that is added, so that adding it twice leaves one.
    pub(crate) added: Option<String>,
}

impl Elements {
    /// Morphs each top-level element of `html` into the element of the page with the same id.
    #[must_use]
    pub fn outer(html: impl Into<String>) -> Self {
        Self::new(Mode::Outer, "", html)
    }

    /// Morphs `html` into the content of `selector`.
    #[must_use]
    pub fn inner(selector: impl Into<Cow<'static, str>>, html: impl Into<String>) -> Self {
        Self::new(Mode::Inner, selector, html)
    }

    /// Replaces `selector` by `html` without morphing, so that bindings inside start afresh.
    #[must_use]
    pub fn replace(selector: impl Into<Cow<'static, str>>, html: impl Into<String>) -> Self {
        Self::new(Mode::Replace, selector, html)
    }

    /// Adds `html`, one element with the id `id`, as the last child of `selector`.
    ///
    /// The id makes a replay harmless: an element that has it is removed first.
    #[must_use]
    pub fn append(
        selector: impl Into<Cow<'static, str>>,
        id: impl Into<String>,
        html: impl Into<String>,
    ) -> Self {
        Self::new(Mode::Append, selector, html).adding(id)
    }

    /// Adds `html`, one element with the id `id`, as the first child of `selector`.
    #[must_use]
    pub fn prepend(
        selector: impl Into<Cow<'static, str>>,
        id: impl Into<String>,
        html: impl Into<String>,
    ) -> Self {
        Self::new(Mode::Prepend, selector, html).adding(id)
    }

    /// Adds `html`, one element with the id `id`, before `selector`.
    #[must_use]
    pub fn before(
        selector: impl Into<Cow<'static, str>>,
        id: impl Into<String>,
        html: impl Into<String>,
    ) -> Self {
        Self::new(Mode::Before, selector, html).adding(id)
    }

    /// Adds `html`, one element with the id `id`, after `selector`.
    #[must_use]
    pub fn after(
        selector: impl Into<Cow<'static, str>>,
        id: impl Into<String>,
        html: impl Into<String>,
    ) -> Self {
        Self::new(Mode::After, selector, html).adding(id)
    }

    /// Takes every element that matches `selector` off the page.
    #[must_use]
    pub fn remove(selector: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Mode::Remove, selector, String::new())
    }

    /// The HTML, for a template that shows it when the page is rendered.
    #[must_use]
    pub fn html(&self) -> &str {
        &self.html
    }

    /// How the HTML meets the page.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The CSS selector of the target; empty when each element's own id is the target.
    #[must_use]
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// Whether the elements say all there is to see at their target.
    pub(crate) const fn is_whole(&self) -> bool {
        matches!(self.mode, Mode::Outer | Mode::Inner | Mode::Replace)
    }

    /// Adds `html` as the last child of `selector` without removing an element that has its id.
    #[doc(hidden)]
    #[must_use]
    pub fn append_always(selector: impl Into<Cow<'static, str>>, html: impl Into<String>) -> Self {
        Self::new(Mode::Append, selector, html)
    }

    fn new(mode: Mode, selector: impl Into<Cow<'static, str>>, html: impl Into<String>) -> Self {
        Self { mode, selector: selector.into(), html: html.into(), added: None }
    }

    fn adding(mut self, id: impl Into<String>) -> Self {
        self.added = Some(id.into());
        self
    }
}

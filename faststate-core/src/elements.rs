//! HTML that patches a page.

use std::borrow::Cow;

/// The way in which Datastar patches elements into a page: its patch modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(hidden)]
pub enum PatchMode {
    /// Morphs the target itself (the default).
    #[default]
    Outer,
    /// Morphs the target's content.
    Inner,
    /// Replaces the target without morphing.
    Replace,
    /// Inserts the elements before the target's first child.
    Prepend,
    /// Inserts the elements after the target's last child.
    Append,
    /// Inserts the elements before the target.
    Before,
    /// Inserts the elements after the target.
    After,
    /// Removes the target.
    Remove,
}

impl PatchMode {
    /// Returns the mode with this name on the wire.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
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

    /// Returns the mode's name on the wire.
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

/// A piece of HTML, and the mode and target with which it patches a page.
///
/// The HTML is sent as it is, and a `<script>` in it runs: escape all text that users have entered (askama does so).
/// Line ends are normalised on the wire, so that no text can start a new SSE line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements {
    pub(crate) mode: PatchMode,
    pub(crate) selector: Cow<'static, str>,
    pub(crate) html: String,
    /// The id of the element that is inserted, so that a second insertion replaces it.
    pub(crate) added: Option<String>,
}

impl Elements {
    /// Morphs each top-level element of `html` into the element of the page with the same id.
    #[must_use]
    pub fn outer(html: impl Into<String>) -> Self {
        Self::new(PatchMode::Outer, "", html)
    }

    /// Morphs `html` into the content of `selector`.
    #[must_use]
    pub fn inner(selector: impl Into<Cow<'static, str>>, html: impl Into<String>) -> Self {
        Self::new(PatchMode::Inner, selector, html)
    }

    /// Replaces `selector` by `html` without morphing, so that Datastar initialises the attributes inside again.
    #[must_use]
    pub fn replace(selector: impl Into<Cow<'static, str>>, html: impl Into<String>) -> Self {
        Self::new(PatchMode::Replace, selector, html)
    }

    /// Adds `html`, one element with the id `id`, as the last child of `selector`.
    ///
    /// Any element that has this id is removed first, so that a replay of the patch changes nothing.
    #[must_use]
    pub fn append(
        selector: impl Into<Cow<'static, str>>,
        id: impl Into<String>,
        html: impl Into<String>,
    ) -> Self {
        Self::new(PatchMode::Append, selector, html).with_id(id)
    }

    /// Adds `html`, one element with the id `id`, as the first child of `selector`.
    #[must_use]
    pub fn prepend(
        selector: impl Into<Cow<'static, str>>,
        id: impl Into<String>,
        html: impl Into<String>,
    ) -> Self {
        Self::new(PatchMode::Prepend, selector, html).with_id(id)
    }

    /// Adds `html`, one element with the id `id`, before `selector`.
    #[must_use]
    pub fn before(
        selector: impl Into<Cow<'static, str>>,
        id: impl Into<String>,
        html: impl Into<String>,
    ) -> Self {
        Self::new(PatchMode::Before, selector, html).with_id(id)
    }

    /// Adds `html`, one element with the id `id`, after `selector`.
    #[must_use]
    pub fn after(
        selector: impl Into<Cow<'static, str>>,
        id: impl Into<String>,
        html: impl Into<String>,
    ) -> Self {
        Self::new(PatchMode::After, selector, html).with_id(id)
    }

    /// Removes every element that matches `selector` from the page.
    #[must_use]
    pub fn remove(selector: impl Into<Cow<'static, str>>) -> Self {
        Self::new(PatchMode::Remove, selector, String::new())
    }

    /// Returns the HTML, for a template that shows it when the page is rendered.
    #[must_use]
    pub fn html(&self) -> &str {
        &self.html
    }

    /// Returns the mode.
    #[must_use]
    #[doc(hidden)]
    pub const fn mode(&self) -> PatchMode {
        self.mode
    }

    /// Returns the CSS selector of the target. It is empty if each element's own id is the target.
    #[must_use]
    #[doc(hidden)]
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// Returns whether the elements are the whole content of their target.
    pub(crate) const fn is_whole(&self) -> bool {
        matches!(self.mode, PatchMode::Outer | PatchMode::Inner | PatchMode::Replace)
    }

    /// Adds `html` as the last child of `selector`, even if the page has an element with its id.
    #[doc(hidden)]
    #[must_use]
    pub fn append_always(selector: impl Into<Cow<'static, str>>, html: impl Into<String>) -> Self {
        Self::new(PatchMode::Append, selector, html)
    }

    fn new(mode: PatchMode, selector: impl Into<Cow<'static, str>>, html: impl Into<String>) -> Self {
        Self { mode, selector: selector.into(), html: html.into(), added: None }
    }

    /// Sets the id of the element that is inserted.
    fn with_id(mut self, id: impl Into<String>) -> Self {
        self.added = Some(id.into());
        self
    }
}

//! Seeded random texts with hostile content.

/// A small seeded generator (SplitMix64): a failing test fails again with the same seed.
#[derive(Debug)]
pub struct Random(u64);

/// Texts with a meaning in HTML, JavaScript, JSON, SSE, URLs or Datastar.
const HOSTILE: &[&str] = &[
    "\"",
    "'",
    "`",
    "\\",
    "\\'",
    "\\\\",
    "\\u0027",
    "</script>",
    "<!--",
    "-->",
    "<b>",
    "&",
    "&quot;",
    "&#39;",
    "&amp;",
    "$",
    "$x",
    "${x}",
    "$counter.count",
    "@",
    "@post(",
    "@get('/x')",
    ";",
    "; ",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "() => 1",
    "=>",
    ":",
    ",",
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\t",
    "\0",
    "\u{8}",
    "\u{b}",
    "\u{1b}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{fffd}",
    "\u{ffff}",
    "é",
    "e\u{301}",
    "😀",
    "👩‍👩‍👧",
    "مرحبا",
    "data: ",
    "event: x",
    "id: 7",
    "%27",
    "%",
    "+",
    "?",
    "#",
    "/",
    "//",
    "/*",
    "*/",
    "return",
    "return 1",
    "__proto__",
    "null",
    "true",
    "1e999",
    "on",
    "  ",
    "-0",
    "function () {}",
];

impl Random {
    /// A generator that starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as usize % end
    }

    /// The next text: up to eight pieces, hostile or plain.
    pub fn text(&mut self) -> String {
        (0..self.below(9)).map(|_| self.piece()).collect()
    }

    /// Every hostile piece alone, followed by combinations, `count` texts in total.
    pub fn texts(&mut self, count: usize) -> Vec<String> {
        let alone = HOSTILE.iter().map(|piece| (*piece).to_owned());
        alone.chain(std::iter::repeat_with(|| self.text())).take(count).collect()
    }

    fn piece(&mut self) -> String {
        match self.below(4) {
            0 => char::from_u32(self.below(0x1_1000) as u32).unwrap_or('\u{10ffff}').to_string(),
            1 => "word ".to_owned(),
            _ => HOSTILE[self.below(HOSTILE.len())].to_owned(),
        }
    }
}

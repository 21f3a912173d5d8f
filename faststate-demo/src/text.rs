//! Checks on text that visitors write for each other.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// Characters that are letters or symbols by their category but blank on the screen: the fillers of Hangul, the braille
/// pattern without dots, and the null note head.
const BLANK: [char; 6] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{2800}', '\u{1d159}'];

/// Returns whether the text has any visible character.
pub(crate) fn is_visible(text: &str) -> bool {
    text.chars().any(is_visible_char)
}

/// The text without invisible characters, to compare names as readers see them.
pub(crate) fn visible(text: &str) -> String {
    text.chars().filter(|letter| is_visible_char(*letter)).collect()
}

/// Returns whether the character is visible by itself. A mark needs a letter; separators and controls are invisible.
fn is_visible_char(letter: char) -> bool {
    use GeneralCategoryGroup::{Letter, Number, Punctuation, Symbol};

    matches!(letter.general_category_group(), Letter | Number | Punctuation | Symbol)
        && !BLANK.contains(&letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_visible_characters_is_invisible() {
        for letter in [
            ' ',
            '\n',
            '\t',
            '\0',
            '\u{85}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180e}',
            '\u{2003}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{2062}',
            '\u{2066}',
            '\u{206a}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{301}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{1d159}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0061}',
            '\u{e0100}',
            '\u{e000}',
            '\u{fdd0}',
        ] {
            assert!(!is_visible(&letter.to_string().repeat(3)), "{:x}", u32::from(letter));
        }
        for text in ["a", "\u{200b}a", "ก็", "שלום", "한", "नमस्ते", "👩‍👩‍👧", "…", "1", "€", "🇳🇿", "e\u{301}"]
        {
            assert!(is_visible(text), "{text}");
        }
        assert_eq!(visible("al\u{200b}ice\u{3164}"), "alice");
    }
}

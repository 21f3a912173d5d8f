//! Signals inside an HTML attribute.

use serde_json::Value;

use crate::literal::push_value;

/// Returns signals as the value of `data-signals`: a JavaScript object literal with single quotes.
///
/// The value contains no `"`, `&`, `<` or `>`, so it can stand inside double quotes whether or not a template escapes
/// it. As on the wire, `null` is written as `""` and an integer beyond 2^53 as a string. A name that would pollute a
/// prototype is omitted.
#[must_use]
pub fn attribute(signals: &Value) -> String {
    let mut out = String::with_capacity(256);
    push_value(&mut out, signals, "''");
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn attribute_is_a_javascript_literal() {
        let signals = json!({
            "counter": {"count": 5, "user": "O'Hara; \"<b>&\" $x @get(", "_v": "1-2-3"},
            "list": [null, true, -1.5, 9_007_199_254_740_993_u64, i64::MIN],
        });
        let expected = concat!(
            r"{'counter':{'_v':'1-2-3','count':5,'user':'O\u0027Hara\u003b \u0022\u003cb\u003e\u0026\u0022 \u0024x \u0040get('},",
            "'list':['',true,-1.5,'9007199254740993','-9223372036854775808']}",
        );
        assert_eq!(attribute(&signals), expected);
    }

    #[test]
    fn law_12_names_that_pollute_are_omitted() {
        let signals = json!({"a": {"__proto__": {"x": 1}, "b.constructor": 1, "b": 1}, "prototype": 1});
        assert_eq!(attribute(&signals), "{'a':{'b':1}}");
    }

    proptest! {
        #[test]
        fn law_12_text_cannot_escape_from_the_attribute(text in "(?s).*|(?s)['\"\\\\;$@<>&`\r\n\0\u{2028}\u{2029}\u{85}a]*") {
            let escaped = attribute(&json!({ text.clone(): text.clone() }));
            prop_assume!(!crate::key::pollutes(&text));
            let inner = escaped.strip_prefix("{'").and_then(|rest| rest.strip_suffix("'}")).unwrap();
            let (key, value) = inner.split_once("':'").unwrap();
            prop_assert_eq!(key, value);
            let special = ['\'', '"', '&', '<', '>', ';', '$', '@', '`', '\u{2028}', '\u{2029}'];
            prop_assert!(!key.contains(special));
            prop_assert!(!key.chars().any(char::is_control));
            // JavaScript and JSON parse the literal alike, because `\uXXXX` is its only escape sequence.
            prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{key}\"")).unwrap(), text);
        }
    }
}

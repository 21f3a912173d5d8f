//! Signals inside an HTML attribute.

use serde_json::Value;

use crate::literal::push_value;

/// Signals as the value of `data-signals`: a JavaScript object literal in single quotes that means the
/// same escaped by a template and raw inside double quotes.
///
/// It contains neither `"` nor `&`, `<` or `>`. As on the wire, `null` is `""` and an integer beyond 2^53
/// is a text; a name that would pollute a prototype is left out.
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
    fn an_attribute_is_a_javascript_literal() {
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
    fn law_12_names_that_pollute_are_left_out() {
        let signals = json!({"a": {"__proto__": {"x": 1}, "b.constructor": 1, "b": 1}, "prototype": 1});
        assert_eq!(attribute(&signals), "{'a':{'b':1}}");
    }

    proptest! {
        #[test]
        fn law_12_no_text_leaves_the_attribute(text in "(?s).*|(?s)['\"\\\\;$@<>&`\r\n\0\u{2028}\u{2029}\u{85}a]*") {
            let shown = attribute(&json!({ text.clone(): text.clone() }));
            prop_assume!(!crate::key::pollutes(&text));
            let inner = shown.strip_prefix("{'").and_then(|rest| rest.strip_suffix("'}")).unwrap();
            let (key, value) = inner.split_once("':'").unwrap();
            prop_assert_eq!(key, value);
            let special = ['\'', '"', '&', '<', '>', ';', '$', '@', '`', '\u{2028}', '\u{2029}'];
            prop_assert!(!key.contains(special));
            prop_assert!(!key.chars().any(char::is_control));
            // What JavaScript makes of it is what JSON makes of it: only `\uXXXX` is used.
            prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{key}\"")).unwrap(), text);
        }
    }
}

//! Subscriptions by a regular expression: RE2's syntax and meaning, in linear time and bounded memory.
//!
//! Topic names are ASCII, so classes like `\w` and `(?i)` are ASCII's, as in RE2; a name has to match as a whole. `\Q...\E` is RE2's
//! and not the library's: it is put into its terms first. Classes of Unicode (`\p{Greek}`) are refused.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::error::ConsumerError;
use crate::limits::{REGEX_BYTES_MAX, REGEX_COMPILED_BYTES_MAX};

/// A compiled expression.
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Errors: it is no expression, or too large.
    pub(super) fn compile(text: &str) -> Result<Self, ConsumerError> {
        if text.len() > REGEX_BYTES_MAX {
            return Err(ConsumerError::InvalidRegularExpression(format!("longer than {REGEX_BYTES_MAX} bytes")));
        }
        let text = unquoted(text);
        // By itself first: `a)(b` would become an expression between the anchors.
        build(&text)?;
        build(&format!(r"\A(?:{text})\z")).map(Self)
    }

    pub(super) fn matches(&self, topic: &Arc<str>) -> bool {
        self.0.is_match(topic.as_bytes())
    }
}

fn build(text: &str) -> Result<Regex, ConsumerError> {
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(REGEX_COMPILED_BYTES_MAX)
        .dfa_size_limit(REGEX_COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| ConsumerError::InvalidRegularExpression(last_line(&error)))
}

/// Parentheses in parentheses.
const NESTING_MAX: u32 = 100;

/// The library points at the place in lines above.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// `\Q...\E` as escaped characters; without an end it goes on to the end.
fn unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, after) = rest.split_at(at);
        out += before;
        if let Some(quoted) = after.strip_prefix(r"\Q") {
            let (literal, tail) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out += &regex::escape(literal);
            rest = tail;
        } else {
            // An escape and what it escapes stay together: `\\Q` is a backslash and a letter.
            let end = after.char_indices().nth(2).map_or(after.len(), |(end, _)| end);
            out += &after[..end];
            rest = &after[end..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        Pattern::compile(pattern).unwrap().matches(&topic.into())
    }

    #[test]
    fn a_name_matches_as_a_whole() {
        assert!(matches("a|ab", "ab"));
        assert!(!matches("a|b", "ab"));
        assert!(matches("(?i)ORDERS-.*", "orders-eu"));
        assert!(matches(r"\w+\.\d{2}", "t_1.42"));
        assert!(matches(r"\Qa.b\E.*", "a.bc"));
        assert!(!matches(r"\Qa.b\E.*", "axbc"));
        assert!(matches(r"\Qa.b", "a.b"));
        assert!(matches("", ""));
        assert!(!matches("", "a"));
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused() {
        for bad in ["(", "a)(b", "[", "*", r"(a)\1", "(?=a)", "(?x)a #", r"\p{Greek}", "(?:a{1000}){1000}"] {
            let error = Pattern::compile(bad).err();
            assert!(matches!(error, Some(ConsumerError::InvalidRegularExpression(_))), "{bad}");
        }
        assert!(Pattern::compile(&"a".repeat(REGEX_BYTES_MAX + 1)).is_err());
        assert!(Pattern::compile(&"(".repeat(200)).is_err());
    }

    #[test]
    fn an_expression_that_would_take_for_ever_elsewhere_takes_no_time() {
        assert!(!matches("(a*)*b", &"a".repeat(249)));
        assert!(!matches("(a|aa)+c", &"a".repeat(249)));
    }
}

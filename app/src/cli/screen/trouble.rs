//! Errors: what went wrong, and what to do next.

use super::escape::fit;
use crate::cli::failure::Failure;

/// Maximum width of a message, in columns. It may quote a peer.
const REASON: usize = 600;

/// What went wrong.
pub(crate) fn what(failure: &Failure) -> String {
    format!("✗ {}", fit(&failure.what, REASON))
}

/// What to do next, if known.
pub(crate) fn advice(failure: &Failure) -> Option<String> {
    (!failure.advice.is_empty()).then(|| format!("  {}", failure.advice.replace('\n', "\n  ")))
}

/// Suggests words for a mistyped word of a code.
pub(crate) fn meant(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.as_slice() {
        [others @ .., last] if !others.is_empty() => {
            format!("Did you mean {} or {last}?", others.join(", "))
        }
        quoted => format!("Did you mean {}?", quoted.concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_or_several_may_be_meant() {
        insta::assert_snapshot!(meant(&["amber"]), @r#"Did you mean "amber"?"#);
        insta::assert_snapshot!(meant(&["otter", "oven"]), @r#"Did you mean "otter" or "oven"?"#);
        let several = meant(&["amber", "otter", "oven"]);
        insta::assert_snapshot!(several, @r#"Did you mean "amber", "otter" or "oven"?"#);
    }
}

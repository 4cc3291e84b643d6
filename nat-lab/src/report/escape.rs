//! Escapes arbitrary strings for display. Errors come from programs, and programs quote their peers.

/// Puts text on one line and escapes control characters and characters that change the direction of text.
pub(super) fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\n' | '\t' => safe.push(' '),
            '\r' => {}
            c if c.is_control() || turns(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// True for characters that change the direction of text or break a line.
fn turns(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes text for HTML, in content and in quoted attributes.
pub(super) fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c => safe.push(c),
        }
    }
    safe
}

/// Escapes text for Markdown, within a line and within a table.
pub(super) fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in plain(text).chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '$'
        ) {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::{html, markdown, plain};

    const BAD: &str = "a\n\u{1b}[2J\u{202e}<script>\"x\" & 'y'</script> | `z` *b* [l](u) \\";

    #[test]
    fn nothing_gets_through() {
        assert_eq!(
            plain(BAD),
            "a \\u{1b}[2J\\u{202e}<script>\"x\" & 'y'</script> | `z` *b* [l](u) \\"
        );
        assert_eq!(
            html(BAD),
            "a \\u{1b}[2J\\u{202e}&lt;script&gt;&quot;x&quot; &amp; &#39;y&#39;&lt;/script&gt; | `z` *b* [l](u) \\"
        );
        assert_eq!(
            markdown(BAD),
            "a \\\\u{1b}\\[2J\\\\u{202e}\\<script\\>\"x\" \\& 'y'\\</script\\> \\| \\`z\\` \\*b\\* \\[l\\](u) \\\\"
        );
    }
}

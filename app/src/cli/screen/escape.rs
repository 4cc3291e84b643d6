//! Makes text from peers, disks and operating systems safe to print.
//!
//! A name may contain characters that move the cursor, write to the clipboard, reverse the reading direction or are
//! invisible. They are printed as `\u{…}`, so that the screen shows what is really there.

use std::fmt::Write;
use std::io;

use serde_json::ser::Formatter;

/// Returns the text with each deceptive character written as `\u{…}`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) {
            let _ = write!(escaped, "{}", c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Escapes the text and shortens it to at most `width` columns. The middle is cut out, because the end of a name
/// distinguishes a picture from a program.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let escaped = escape(text);
    if console::measure_text_width(&escaped) <= width {
        return escaped;
    }
    let room = width.saturating_sub(1);
    let tail = take(escaped.chars().rev(), room / 3);
    let head = take(escaped.chars(), room - columns(&tail));
    let head: String = head.into_iter().collect();
    let tail: String = tail.into_iter().rev().collect();
    format!("{head}…{tail}")
}

/// Escapes and shortens each line of a description. Replaces the lines after the first `lines` by `…`.
pub(crate) fn fit_lines(text: &str, width: usize, lines: usize) -> Vec<String> {
    let all = text.trim_end().lines().count();
    let mut fitted: Vec<String> = text
        .trim_end()
        .lines()
        .take(lines)
        .map(|line| fit(line, width))
        .collect();
    if all > lines {
        fitted.push("…".to_string());
    }
    fitted
}

/// Writes JSON on one line, with deceptive characters as `\u` escapes. They can occur only in its strings.
#[derive(Debug)]
pub(crate) struct EscapedJson;

impl Formatter for EscapedJson {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_deceptive(*c)) {
            let (plain, behind) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = behind.get(c.len_utf8()..).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Takes characters from the front, up to a total width of `width` columns.
fn take(chars: impl Iterator<Item = char>, width: usize) -> Vec<char> {
    let mut taken = Vec::new();
    let mut used = 0;
    for c in chars {
        used += column(c);
        if used > width {
            break;
        }
        taken.push(c);
    }
    taken
}

fn columns(chars: &[char]) -> usize {
    chars.iter().copied().map(column).sum()
}

fn column(c: char) -> usize {
    let mut buffer = [0; 4];
    console::measure_text_width(c.encode_utf8(&mut buffer))
}

/// True for characters that act on a terminal, are invisible, or have no agreed look: controls (C0, C1, DEL),
/// bidirectional controls, those that Unicode calls default ignorable, line separators, private use and noncharacters.
/// The two variation selectors that choose between text and emoji are allowed.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{e000}'..='\u{f8ff}'
                | '\u{fdd0}'..='\u{fdef}'
                | '\u{fe00}'..='\u{fe0d}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{10ffff}'
        )
        || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::Serializer;

    use super::*;

    /// Row 5 of the threats.
    #[test]
    fn what_deceives_is_shown() {
        let texts = [
            "plain name.txt",
            "clipboard \u{1b}]52;c;aGk=\u{7}",
            "link \u{1b}]8;;http://evil.example\u{1b}\\here\u{1b}]8;;\u{1b}\\",
            "colour \u{1b}[31mred\u{1b}[0m",
            "return\rover",
            "new\nline\tand tab",
            "C1 \u{9b}31m, next line \u{85}",
            "delete \u{7f}",
            "invoice\u{202e}fdp.exe",
            "isolates \u{2066}a\u{2069} marks \u{200e}\u{200f}\u{61c}",
            "zero\u{200b}width\u{200d}joined\u{feff}",
            "soft\u{ad}hyphen, filler \u{3164}",
            "lines \u{2028} \u{2029}",
            "tags \u{e0001}\u{e0041}",
            "private \u{e000} \u{f0000} \u{10ffff}",
            "arabic \u{627}\u{644}, hebrew \u{5d0}, 文字, e\u{301}, ❤\u{fe0f}",
        ];
        insta::assert_snapshot!(texts.map(escape).join("\n"));
    }

    #[test]
    fn a_long_name_loses_its_middle() {
        let name = format!("{}.pdf.exe", "a".repeat(300));
        assert_eq!(
            fit(&name, 30),
            format!("{}…{}.pdf.exe", "a".repeat(20), "a")
        );
        assert_eq!(fit("short", 5), "short");
        assert_eq!(fit("文文文文", 8), "文文文文");
        let wide = fit("文文文文文", 8);
        assert!(console::measure_text_width(&wide) <= 8, "{wide}");
        assert_eq!(fit("abc", 0), "…");
    }

    #[test]
    fn json_stays_the_same_json() {
        let text = "\u{9b}31m \u{202e}x \u{e0041} ok 文 \n";
        let mut escaped = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut escaped, EscapedJson);
        text.serialize(&mut serializer).unwrap();
        let escaped = String::from_utf8(escaped).unwrap();
        assert!(
            escaped.contains("\\u009b31m \\u202ex \\udb40\\udc41"),
            "{escaped}"
        );
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }

    #[test]
    fn lines_are_counted() {
        assert_eq!(fit_lines("a\nb\r\nc\n\n", 9, 2), ["a", "b", "…"]);
        assert_eq!(fit_lines("a\rb", 20, 2), ["a\\u{d}b"]);
    }
}

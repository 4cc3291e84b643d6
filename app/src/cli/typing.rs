//! A line that is typed key by key, so that Tab can complete the words of a short code and a pasted code may exceed the
//! 4095 bytes that a terminal accepts in one line.

use std::io::{self, Read};

use console::measure_text_width;
use handover_core::code::{MAX_CODE, words};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio::sync::mpsc;

use super::interrupt::Interrupts;
use super::screen::Screen;
use super::screen::escape::escape;

/// Maximum number of keys waiting to be processed. Pasting is faster than the screen.
const KEYS: usize = 256;

const END_OF_INPUT: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const TAB: u8 = b'\t';
const KILL_LINE: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// Turns off the terminal's line editing and echo until it is dropped. Ctrl-C still sends a signal.
pub(crate) struct KeyByKey(Termios);

impl KeyByKey {
    /// Returns `None` if standard input does not support this.
    pub(crate) fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &modes).ok()?;
        Some(Self(before))
    }

    /// Returns the next line, or `None` if the user gave up.
    // `self` is the proof that the terminal delivers single keys.
    #[allow(clippy::unused_self)]
    pub(crate) async fn line(
        &self,
        screen: &Screen,
        interrupts: &mut Interrupts,
    ) -> Option<String> {
        let mut keys = read_keys();
        let mut line = Line::default();
        loop {
            let key = tokio::select! {
                key = keys.recv() => key?,
                () = interrupts.next() => return None,
            };
            match key {
                END_OF_INPUT if line.text.is_empty() => return None,
                key if ends_line(key) => return Some(line.text),
                key => {
                    let change = line.key(key);
                    screen.retype(change.erase, &change.show);
                }
            }
        }
    }
}

impl Drop for KeyByKey {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn ends_line(key: u8) -> bool {
    matches!(key, b'\n' | b'\r' | END_OF_INPUT)
}

/// Reads up to the end of the line and no further, in a separate thread because such a read cannot be cancelled.
fn read_keys() -> mpsc::Receiver<u8> {
    let (keys, keys_out) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        for key in io::stdin().lock().bytes() {
            let Ok(key) = key else {
                return;
            };
            if keys.blocking_send(key).is_err() || ends_line(key) {
                return;
            }
        }
    });
    keys_out
}

/// How a key changes the line on the screen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    /// Number of columns to erase at the end of the line.
    erase: usize,
    /// Text to append after that. Not escaped.
    show: String,
}

/// The line typed so far.
#[derive(Debug, Default)]
struct Line {
    text: String,
    /// Bytes of an incomplete UTF-8 character.
    character: Vec<u8>,
    /// State within an escape sequence, which keys such as the arrows send.
    escaped: Escaped,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escaped {
    #[default]
    No,
    /// After the escape character.
    Begun,
    /// After `ESC [` or `ESC O`, until a letter or `~`.
    Sequence,
}

impl Line {
    fn key(&mut self, key: u8) -> Change {
        match (self.escaped, key) {
            (Escaped::No, ESCAPE) => self.escaped = Escaped::Begun,
            (Escaped::Begun, b'[' | b'O') => self.escaped = Escaped::Sequence,
            (Escaped::Sequence, b'@'..=b'~') | (Escaped::Begun, _) => self.escaped = Escaped::No,
            (Escaped::No, BACKSPACE | DELETE) => return self.erase(1),
            (Escaped::No, KILL_LINE) => return self.erase(usize::MAX),
            (Escaped::No, TAB) => return self.complete(),
            (Escaped::Sequence, _) | (Escaped::No, ..b' ') => {}
            (Escaped::No, byte) => return self.add(byte),
        }
        Change::default()
    }

    fn add(&mut self, byte: u8) -> Change {
        self.character.push(byte);
        let show = match std::str::from_utf8(&self.character) {
            Ok(character) => character.to_string(),
            Err(error) if error.error_len().is_none() => return Change::default(),
            Err(_) => String::new(),
        };
        self.character.clear();
        // Keeps one byte more than the longest code, so that parsing finds the line too long.
        if self.text.len() > MAX_CODE {
            return Change::default();
        }
        self.text.push_str(&show);
        Change { erase: 0, show }
    }

    /// Erases up to `most` characters at the end.
    fn erase(&mut self, most: usize) -> Change {
        let mut erase = 0;
        for _ in 0..most {
            let Some(character) = self.text.pop() else {
                break;
            };
            erase += measure_text_width(&escape(&character.to_string()));
        }
        let show = String::new();
        Change { erase, show }
    }

    /// Completes or corrects the word at the end, if there is only one candidate.
    fn complete(&mut self) -> Change {
        let Some((before, typed)) = self.text.rsplit_once('-') else {
            return Change::default();
        };
        let dashes = before.matches('-').count();
        let [word] = words::like(typed)[..] else {
            return Change::default();
        };
        let end = match dashes {
            0 => "-",
            1 => "",
            _ => return Change::default(),
        };
        let Change { erase, .. } = self.erase(typed.chars().count());
        let show = format!("{word}{end}");
        self.text.push_str(&show);
        Change { erase, show }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the line after these keys, and what the screen shows then.
    fn typed(keys: &[u8]) -> (String, String) {
        let mut line = Line::default();
        let mut screen = String::new();
        for key in keys {
            let change = line.key(*key);
            let left = screen.chars().count() - change.erase;
            screen = screen.chars().take(left).collect();
            screen.push_str(&escape(&change.show));
        }
        (line.text, screen)
    }

    #[track_caller]
    fn becomes(keys: &[u8], text: &str) {
        assert_eq!(typed(keys), (text.to_string(), text.to_string()));
    }

    #[test]
    fn tab_completes_and_mends_a_word_that_is_clear() {
        becomes(b"4827193-ambe\tott\t", "4827193-amber-otter");
        becomes(b"4827193-ambre\tOTTR\t", "4827193-amber-otter");
        becomes(b"4827193-amber\t", "4827193-amber-");
        becomes(
            b"handover get 4827193-ambe\t",
            "handover get 4827193-amber-",
        );
    }

    #[test]
    fn tab_leaves_alone_what_is_not_clear() {
        for text in [
            "4827193",
            "4827193-",
            "4827193-a",
            "4827193-xylophon",
            "4827193-amber-otter-ambe",
        ] {
            becomes(format!("{text}\t").as_bytes(), text);
        }
    }

    #[test]
    fn what_was_typed_can_be_taken_away() {
        becomes(b"\x7fab\x7fc\x08\x08\x08d", "d");
        becomes(b"abc\x15d", "d");
        becomes("“a”\u{7f}b".as_bytes(), "“ab");
        let (text, screen) = typed("a\u{200b}\u{7f}b".as_bytes());
        assert_eq!((text.as_str(), screen.as_str()), ("ab", "ab"));
    }

    #[test]
    fn keys_that_mean_nothing_here_leave_nothing() {
        becomes(b"a\x1b[D\x1b[1;5C\x1bOAb\x01\x0c\x1bxc", "abc");
        becomes(b"a\xff\xe2\x28b", "ab");
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let (text, _) = typed(&b"x".repeat(MAX_CODE + 100));
        assert_eq!(text.len(), MAX_CODE + 1);
    }
}

//! A line that is typed key by key. So Tab can complete the words of a short code, and a pasted code may be longer than
//! the 4095 bytes that a terminal takes for one line.

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

/// Keys that wait; whoever pastes is faster than the screen.
const KEYS: usize = 256;

const END_OF_INPUT: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const TAB: u8 = b'\t';
const KILL_LINE: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// The terminal hands on each key at once and shows none, until this is dropped. Ctrl-C stays a signal.
pub(crate) struct KeyByKey(Termios);

impl KeyByKey {
    /// `None` where standard input can't do that.
    pub(crate) fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &modes).ok()?;
        Some(Self(before))
    }

    /// The next line; `None` if the user gave up.
    // Only while there is a `Self` do keys come one by one.
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

/// Reads up to the end of the line and no further, in a thread of its own: such a read can't be called off.
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

/// What a key does to the line on the screen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    /// Columns to take away from its end.
    erase: usize,
    /// What to add then. Not escaped.
    show: String,
}

/// A line as far as it is typed.
#[derive(Debug, Default)]
struct Line {
    text: String,
    /// The beginning of a character of several bytes.
    character: Vec<u8>,
    /// Inside of what keys such as the arrows send.
    escaped: Escaped,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escaped {
    #[default]
    No,
    /// Behind the escape character.
    Begun,
    /// Behind `ESC [`, until a letter or `~`.
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
        // One more than a code may have, so that it is seen to be too long.
        if self.text.len() > MAX_CODE {
            return Change::default();
        }
        self.text.push_str(&show);
        Change { erase: 0, show }
    }

    /// Takes away so many characters.
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

    /// Completes the word at the end, or mends it, if only one can be meant.
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

    /// The line after these keys, and what the screen then shows.
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

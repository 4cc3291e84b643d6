//! Input from the user, and the places from which the code is read.

use std::io::{self, BufRead, IsTerminal, Read};

use handover_core::code::{CodeError, MAX_CODE, ShareCode, words};
use tokio::sync::mpsc;

use super::failure::Failure;
use super::interrupt::Interrupts;
use super::screen::{Screen, Tone, receiving, trouble};
use super::typing::KeyByKey;

/// Environment variable that may hold the code.
pub(crate) const CODE_VARIABLE: &str = "HANDOVER_CODE";
/// Number of attempts at typing a code at the prompt.
const TRIES: usize = 3;
/// Maximum number of words suggested for a mistyped one. If more words are similar, none is suggested.
const MEANT: usize = 4;

/// Lines of standard input, read by a separate thread because such a read cannot be cancelled. Nothing is read before
/// the first line is requested.
#[derive(Debug, Default)]
pub(crate) struct Lines(Option<mpsc::Receiver<String>>);

impl Lines {
    /// Returns the next line, or `None` at the end of the input. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.0.get_or_insert_with(read_lines).recv().await
    }
}

fn read_lines() -> mpsc::Receiver<String> {
    let (lines, lines_out) = mpsc::channel(1);
    std::thread::spawn(move || {
        while let Ok(Some(line)) = read_line(&mut io::stdin().lock()) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines_out
}

/// Reads one line without its line ending, and not much more than the longest code.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = input
        .take(MAX_CODE as u64 + 2)
        .read_until(b'\n', &mut line)?;
    Ok((read > 0).then(|| {
        String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_string()
    }))
}

/// Returns the code: the argument, else the environment variable, else the first line of standard input or, on a
/// terminal, the answer to a prompt. `None` if the user gave up.
pub(crate) async fn code(
    argument: Option<&str>,
    screen: &Screen,
    lines: &mut Lines,
    interrupts: &mut Interrupts,
) -> Result<Option<ShareCode>, Failure> {
    let variable = std::env::var(CODE_VARIABLE)
        .ok()
        .filter(|code| !code.trim().is_empty());
    if let Some(code) = argument.map(str::to_string).or(variable) {
        return parse(&code, screen).map(Some);
    }
    if screen.can_ask() {
        return prompt(screen, lines, interrupts).await;
    }
    if io::stdin().is_terminal() {
        return Err(no_code());
    }
    tokio::select! {
        line = lines.next() => parse(&line.ok_or_else(no_code)?, screen).map(Some),
        () = interrupts.next() => Ok(None),
    }
}

fn no_code() -> Failure {
    Failure::usage(
        "there is no code, and nobody to ask for it",
        format!("Give it on standard input, in the variable {CODE_VARIABLE}, or as an argument."),
    )
}

/// Parses a code. Words similar to a mistyped one are suggested only where a person reads the screen: in a log they
/// would reveal part of the secret.
fn parse(text: &str, screen: &Screen) -> Result<ShareCode, Failure> {
    let failure = |error| {
        let failure = Failure::from(error);
        let meant = meant(text, error).filter(|_| screen.is_read());
        Failure {
            advice: meant.unwrap_or(failure.advice),
            ..failure
        }
    };
    ShareCode::parse(text).map_err(failure)
}

/// Suggests words that a mistyped word of a short code may stand for.
fn meant(text: &str, error: CodeError) -> Option<String> {
    let CodeError::ShortWord(which) = error else {
        return None;
    };
    // The words follow the number, and other text may precede the number.
    let at = words::PLACES.iter().position(|place| *place == which)?;
    let mut parts = text
        .split('-')
        .skip_while(|part| !part.trim_end().ends_with(|c: char| c.is_ascii_digit()));
    let typed = parts.nth(at + 1)?;
    let typed: String = typed.chars().filter(char::is_ascii_alphabetic).collect();
    let like = words::like(&typed);
    (1..=MEANT)
        .contains(&like.len())
        .then(|| trouble::meant(&like))
}

async fn prompt(
    screen: &Screen,
    lines: &mut Lines,
    interrupts: &mut Interrupts,
) -> Result<Option<ShareCode>, Failure> {
    let keys = KeyByKey::begin();
    let mut tries = 1;
    loop {
        screen.ask(receiving::CODE_PROMPT);
        let line = if let Some(keys) = &keys {
            keys.line(screen, interrupts).await
        } else {
            tokio::select! {
                line = lines.next() => line,
                () = interrupts.next() => None,
            }
        };
        if line.is_none() || keys.is_some() {
            screen.need(Tone::Plain, "");
        }
        let Some(line) = line else {
            return Ok(None);
        };
        match parse(&line, screen) {
            Ok(code) => return Ok(Some(code)),
            Err(failure) if tries < TRIES => {
                screen.need(Tone::Bad, &trouble::what(&failure));
                if let Some(advice) = trouble::advice(&failure) {
                    screen.need(Tone::Plain, &advice);
                }
            }
            Err(failure) => return Err(failure),
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_where_it_ends() {
        let mut input = io::Cursor::new(b"a code\r\nmore\n\nlast".to_vec());
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["a code", "more", "", "last"]);
    }

    #[test]
    fn an_endless_line_is_not_read_to_its_end() {
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        let line = read_line(&mut endless).unwrap().unwrap();
        assert!(ShareCode::parse(&line).is_err() && line.len() <= MAX_CODE + 2);
    }

    #[test]
    fn a_mistyped_word_is_recognised_however_it_is_pasted() {
        let meant = |text: &str| meant(text, ShareCode::parse(text).unwrap_err());
        let amber = Some(trouble::meant(&["amber"]));
        for text in [
            "4827193-ambre-otter",
            "handover get 4827193-ambre-otter",
            "“4827193 - Ambre - otter”",
            "4827193-am bre-oter",
            "4827193-ambe-otter",
        ] {
            assert_eq!(meant(text), amber, "{text}");
        }
        let otter = Some(trouble::meant(&["otter"]));
        assert_eq!(meant("`4827193-amber-oter`"), otter);
        for text in [
            "4827193-xylophon-otter",
            "4827193-a-otter",
            "4827193--otter",
            "482719-ambre-otter",
            "",
        ] {
            assert_eq!(meant(text), None, "{text}");
        }
    }
}

//! The screen: the one place that prints.
//!
//! Standard output is for data (a received stream, a code for a pipe, JSON); everything for people goes to standard
//! error. What is printed is rendered by the functions of the modules below, which are pure, and whatever they were
//! given, nothing reaches a terminal unescaped. A peer's text can't even make a line of its own: the modules escape it
//! before they lay it out.

pub(crate) mod doctor;
pub(crate) mod escape;
pub(crate) mod history;
pub(crate) mod meter;
pub(crate) mod node;
pub(crate) mod offer;
pub(crate) mod peers;
pub(crate) mod receiving;
pub(crate) mod resume;
pub(crate) mod sending;
pub(crate) mod throttling;
pub(crate) mod trouble;
pub(crate) mod units;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant};

use console::{Style, Term};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Serializer;

use super::args::Global;
use super::failure::Failure;
use escape::{EscapedJson, escape};

/// How often a line of progress is printed where lines can't be redrawn.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// When the first of them is.
const PLAIN_FIRST: Duration = Duration::from_secs(2);
/// Columns of a screen whose width is not known.
const WIDTH: usize = 100;

/// Bytes of an event that are gathered before they are written.
const EVENT: usize = 16 * 1024;

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// What is to be copied or acted on.
    Strong,
    /// By the way.
    Faint,
    /// It worked.
    Good,
    /// It did not.
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        let style = Style::new().for_stderr();
        match self {
            Self::Plain => style,
            Self::Strong => style.bold(),
            Self::Faint => style.dim(),
            Self::Good => style.green(),
            Self::Bad => style.red(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Events for programs; of what is for people only errors.
    Json,
    /// The code, questions and errors.
    Quiet,
    Everything,
}

/// Where everything is printed.
#[derive(Debug)]
pub(crate) struct Screen {
    detail: Detail,
    /// Lines that are redrawn, where standard error is a terminal.
    live: Option<MultiProgress>,
}

impl Screen {
    pub(crate) fn new(global: &Global) -> Self {
        let detail = match (global.json, global.quiet) {
            (true, _) => Detail::Json,
            (false, true) => Detail::Quiet,
            (false, false) => Detail::Everything,
        };
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        // Lines of the log would tear redrawn ones apart.
        let redraws = io::stderr().is_terminal() && !dumb && global.verbose == 0;
        let live = (detail == Detail::Everything && redraws)
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { detail, live }
    }

    /// Whether somebody is there to answer a question.
    pub(crate) fn can_ask(&self) -> bool {
        self.detail != Detail::Json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Whether a person reads it. Elsewhere it may be kept, and read by others.
    pub(crate) fn is_read(&self) -> bool {
        self.detail != Detail::Json && io::stderr().is_terminal()
    }

    pub(crate) fn is_json(&self) -> bool {
        self.detail == Detail::Json
    }

    /// Columns for people.
    #[allow(clippy::unused_self)]
    pub(crate) fn width(&self) -> usize {
        let columns = Term::stderr()
            .size_checked()
            .map(|(_, columns)| usize::from(columns));
        columns.unwrap_or(WIDTH).clamp(40, 160)
    }

    /// For people who have not asked for quiet.
    pub(crate) fn say(&self, tone: Tone, text: &str) {
        if self.detail == Detail::Everything {
            self.print(tone, text);
        }
    }

    /// For people, even if they asked for quiet.
    pub(crate) fn need(&self, tone: Tone, text: &str) {
        if self.detail != Detail::Json {
            self.print(tone, text);
        }
    }

    /// A question; its answer is typed behind it.
    pub(crate) fn ask(&self, question: &str) {
        self.write(|out| {
            write!(out, "{} ", printable(question))?;
            out.flush()
        });
    }

    /// Changes the answer that is being typed: takes columns away from its end, and adds text.
    pub(crate) fn retype(&self, erase: usize, text: &str) {
        self.write(|out| {
            write!(out, "{}{}", "\u{8} \u{8}".repeat(erase), escape(text))?;
            out.flush()
        });
    }

    /// Why it did not work, for people and programs alike.
    pub(crate) fn fail(&self, failure: &Failure) {
        self.event(&super::json::failed(failure));
        self.print(Tone::Bad, &trouble::what(failure));
        if let Some(advice) = trouble::advice(failure) {
            self.print(Tone::Plain, &advice);
        }
    }

    /// One line of data, on standard output.
    // What prints goes by the screen, even where the screen's state does not matter.
    #[allow(clippy::unused_self)]
    pub(crate) fn data(&self, line: &str) {
        let mut out = io::stdout().lock();
        // Whoever closed their end does not want it.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// An event, for programs that asked for them. It is written as it is made: an offer may list half a million files.
    pub(crate) fn event(&self, event: &impl Serialize) {
        if !self.is_json() {
            return;
        }
        let mut out = BufWriter::with_capacity(EVENT, io::stdout().lock());
        let written = event.serialize(&mut Serializer::with_formatter(&mut out, EscapedJson));
        // Whoever closed their end does not want it.
        if written.is_ok() {
            let _ = writeln!(out).and_then(|()| out.flush());
        }
    }

    /// A new line that shows how something goes on.
    pub(crate) fn live(&self) -> Live {
        let bar = self.live.as_ref().map(|lines| {
            let style = ProgressStyle::with_template("{msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            lines.add(ProgressBar::new_spinner().with_style(style))
        });
        Live {
            bar,
            due: Instant::now() + PLAIN_FIRST,
        }
    }

    fn print(&self, tone: Tone, text: &str) {
        let style = tone.style();
        self.write(|out| {
            for line in text.split('\n') {
                writeln!(out, "{}", style.apply_to(escape(line)))?;
            }
            out.flush()
        });
    }

    /// Writes to standard error, over the redrawn lines. That nobody reads it is no reason to stop.
    fn write(&self, write: impl FnOnce(&mut io::StderrLock<'static>) -> io::Result<()>) {
        let print = || {
            let _ = write(&mut io::stderr().lock());
        };
        match &self.live {
            Some(live) => live.suspend(print),
            None => print(),
        }
    }
}

/// A line that shows how something goes on: redrawn on a terminal, printed now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    due: Instant,
}

impl Live {
    /// Shows it, on a terminal as `drawn` has it for so many columns, elsewhere as `plain` does.
    pub(crate) fn show(
        &mut self,
        screen: &Screen,
        drawn: impl FnOnce(usize) -> String,
        plain: impl FnOnce() -> String,
    ) {
        if let Some(bar) = &self.bar {
            bar.set_message(escape(&drawn(screen.width() - 1)));
        } else if Instant::now() >= self.due {
            self.due = Instant::now() + PLAIN_EVERY;
            screen.say(Tone::Plain, &plain());
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Where the log goes: standard error, line by line, with nothing in it that acts on a terminal.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut out = io::stderr().lock();
        out.write_all(printable(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Escaped but for its line breaks.
fn printable(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(escape).collect();
    lines.join("\n")
}

//! The screen: the only place that prints.
//!
//! Standard output is for data (a received stream, a code for a pipe, JSON); everything for people goes to standard
//! error. The functions of the modules below render the text and are pure. Whatever they are given, nothing reaches a
//! terminal unescaped. Text from peers cannot even start a new line, because the modules escape it before they lay it
//! out.

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

/// Interval between progress lines where lines cannot be redrawn.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Delay before the first of them.
const PLAIN_FIRST: Duration = Duration::from_secs(2);
/// Assumed width of a screen of unknown width, in columns.
const WIDTH: usize = 100;

/// Buffer size for writing an event, in bytes.
const EVENT: usize = 16 * 1024;

/// Meaning of a line, which determines its style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// Text to be copied or acted on.
    Strong,
    /// Secondary information.
    Faint,
    /// Success.
    Good,
    /// Failure.
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
    /// Events for programs. People see only errors.
    Json,
    /// Only the code, questions and errors.
    Quiet,
    Everything,
}

/// Prints everything.
#[derive(Debug)]
pub(crate) struct Screen {
    detail: Detail,
    /// The redrawn lines, if standard error is a terminal.
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
        // Log lines would break up redrawn lines.
        let redraws = io::stderr().is_terminal() && !dumb && global.verbose == 0;
        let live = (detail == Detail::Everything && redraws)
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { detail, live }
    }

    /// True if a user can answer a question.
    pub(crate) fn can_ask(&self) -> bool {
        self.detail != Detail::Json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// True if a person reads the screen. Other output may be stored, and read by others.
    pub(crate) fn is_read(&self) -> bool {
        self.detail != Detail::Json && io::stderr().is_terminal()
    }

    pub(crate) fn is_json(&self) -> bool {
        self.detail == Detail::Json
    }

    /// Width of the screen, in columns.
    #[allow(clippy::unused_self)]
    pub(crate) fn width(&self) -> usize {
        let columns = Term::stderr()
            .size_checked()
            .map(|(_, columns)| usize::from(columns));
        columns.unwrap_or(WIDTH).clamp(40, 160)
    }

    /// Prints for people who have not asked for quiet.
    pub(crate) fn say(&self, tone: Tone, text: &str) {
        if self.detail == Detail::Everything {
            self.print(tone, text);
        }
    }

    /// Prints for people, even if they asked for quiet.
    pub(crate) fn need(&self, tone: Tone, text: &str) {
        if self.detail != Detail::Json {
            self.print(tone, text);
        }
    }

    /// Prints a question. The answer is typed after it.
    pub(crate) fn ask(&self, question: &str) {
        self.write(|out| {
            write!(out, "{} ", printable(question))?;
            out.flush()
        });
    }

    /// Changes the answer that is being typed: erases columns at its end, then appends text.
    pub(crate) fn retype(&self, erase: usize, text: &str) {
        self.write(|out| {
            write!(out, "{}{}", "\u{8} \u{8}".repeat(erase), escape(text))?;
            out.flush()
        });
    }

    /// Reports a failure to people and programs.
    pub(crate) fn fail(&self, failure: &Failure) {
        self.event(&super::json::failed(failure));
        self.print(Tone::Bad, &trouble::what(failure));
        if let Some(advice) = trouble::advice(failure) {
            self.print(Tone::Plain, &advice);
        }
    }

    /// Prints one line of data to standard output.
    // All printing takes the screen, even if its state does not matter.
    #[allow(clippy::unused_self)]
    pub(crate) fn data(&self, line: &str) {
        let mut out = io::stdout().lock();
        // A reader that has closed its end does not want the data.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Writes an event, if programs asked for events. It is serialised while writing, because an offer may list half a
    /// million files.
    pub(crate) fn event(&self, event: &impl Serialize) {
        if !self.is_json() {
            return;
        }
        let mut out = BufWriter::with_capacity(EVENT, io::stdout().lock());
        let written = event.serialize(&mut Serializer::with_formatter(&mut out, EscapedJson));
        // A reader that has closed its end does not want the data.
        if written.is_ok() {
            let _ = writeln!(out).and_then(|()| out.flush());
        }
    }

    /// Creates a progress line.
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

    /// Writes to standard error, above the redrawn lines. Errors are ignored: a missing reader is no reason to stop.
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

/// A progress line: redrawn on a terminal, printed at intervals elsewhere.
#[derive(Debug)]
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    due: Instant,
}

impl Live {
    /// Shows the progress: on a terminal as `drawn` renders it for a width in columns, elsewhere as `plain` does.
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

/// The log's writer: prints to standard error and escapes what acts on a terminal.
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

/// Escapes text except for its line breaks.
fn printable(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(escape).collect();
    lines.join("\n")
}

//! Renders results as a table for a terminal.

use std::fmt::Write as _;

use console::{Alignment, Style, measure_text_width, pad_str, truncate_str};

use super::cell::{Judgement, first_error, totals, verdict};
use super::grid::Grid;
use super::{escape, words};
use crate::results::{Best, Carrier, Cell, Matrix};

/// Maximum width of a line of text below the table, in columns.
const WIDTH: usize = 100;

const LEGEND: [&str; 4] = [
    "10/10  direct in 10 of 10 runs",
    "relay  relayed, as theory has it",
    "8!     no more than 8 runs completed",
    "4+     direct in 4 runs, where theory has a relay alone",
];

/// Returns a carrier's table, its legend, every cell that falls short with details, and a line of totals.
///
/// The table is a triangle. The name of a column is at its top, in the row above its first cell.
pub fn table(matrix: &Matrix, carrier: Carrier, colours: bool) -> String {
    let grid = Grid::new(matrix);
    let ink = Ink { colours };
    let mut out = format!("{}\n\n", ink.bold(carrier.title()));
    out += &triangle(&grid, carrier, &ink);
    out += &apart(&grid, carrier, &ink);
    out.push('\n');
    for line in LEGEND {
        let _ = writeln!(out, "{}", ink.dim(line));
    }
    out += &shortfalls(&grid, carrier, &ink);
    let _ = writeln!(out, "\n{}", words::totals(&totals(matrix, carrier)));
    out
}

/// Applies styles, or leaves text plain.
struct Ink {
    colours: bool,
}

impl Ink {
    fn paint(&self, style: &Style, text: &str) -> String {
        // Only the caller knows whether the output goes to a terminal.
        style
            .clone()
            .force_styling(self.colours)
            .apply_to(text)
            .to_string()
    }

    fn bold(&self, text: &str) -> String {
        self.paint(&Style::new().bold(), text)
    }

    fn dim(&self, text: &str) -> String {
        self.paint(&Style::new().dim(), text)
    }
}

/// Returns the text of a cell and its style.
fn shown(cell: Option<&Cell>) -> (String, Style) {
    let style = Style::new();
    let Some(cell) = cell else {
        return (String::new(), style);
    };
    let verdict = verdict(cell);
    let of_runs = format!("{}/{}", verdict.direct, verdict.runs);
    match (verdict.judgement, verdict.best) {
        (Judgement::Unmeasured, _) => ("·".to_owned(), style.dim()),
        (Judgement::Good, Best::Relay) => ("relay".to_owned(), style.dim()),
        (Judgement::Good, Best::Direct) => (of_runs, style.green()),
        (Judgement::Short, _) => (of_runs, style.yellow()),
        (Judgement::Broken, _) => (format!("{}!", verdict.complete), style.red()),
        (Judgement::Better, _) => (format!("{}+", verdict.direct), style.green()),
    }
}

fn triangle(grid: &Grid<'_>, carrier: Carrier, ink: &Ink) -> String {
    let rows: Vec<_> = grid
        .rows(carrier)
        .map(|(name, cells)| {
            (
                escape::plain(name),
                cells.into_iter().map(shown).collect::<Vec<_>>(),
            )
        })
        .collect();
    let Some((first, _)) = rows.first() else {
        return String::new();
    };
    let widest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
    let label = widest(&mut rows.iter().map(|(name, _)| measure_text_width(name)));
    let column = widest(
        &mut rows
            .iter()
            .flat_map(|(_, cells)| cells)
            .map(|(text, _)| measure_text_width(text)),
    );

    let mut out = format!("{:label$} {}\n", "", ink.bold(first));
    for (row, (name, cells)) in rows.iter().enumerate() {
        out += &ink.bold(&pad_str(name, label, Alignment::Left, None));
        for (text, style) in cells {
            let fill = column - measure_text_width(text);
            let _ = write!(out, " {}{:fill$}", ink.paint(style, text), "");
        }
        if let Some((next, _)) = rows.get(row + 1) {
            let _ = write!(out, " {}", ink.bold(next));
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    out
}

/// Renders the peers that share one topology.
fn apart(grid: &Grid<'_>, carrier: Carrier, ink: &Ink) -> String {
    let rows: Vec<_> = grid
        .apart(carrier)
        .map(|(name, cell)| (escape::plain(name), shown(Some(cell))))
        .collect();
    let label = rows
        .iter()
        .map(|(name, _)| measure_text_width(name))
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for (row, (name, (text, style))) in rows.iter().enumerate() {
        if row == 0 {
            out.push('\n');
        }
        let name = ink.bold(&pad_str(name, label, Alignment::Left, None));
        let _ = writeln!(out, "{name} {}", ink.paint(style, text));
    }
    out
}

fn shortfalls(grid: &Grid<'_>, carrier: Carrier, ink: &Ink) -> String {
    let mut out = String::new();
    for cell in grid.short(carrier) {
        if out.is_empty() {
            let _ = writeln!(out, "\n{}", ink.bold("Fall short:"));
        }
        let [first, second] = &cell.kinds;
        let name = escape::plain(&format!("{first} × {second}"));
        let _ = writeln!(out, "  {}", ink.bold(&name));
        let mut line = |text: &str| {
            let _ = writeln!(out, "    {}", truncate_str(text, WIDTH - 4, "…"));
        };
        let verdict = verdict(cell);
        line(&escape::plain(&words::counts(cell, &verdict)));
        for times in words::times(&verdict.times).chunks(2) {
            line(&times.join("; "));
        }
        if let Some(error) = first_error(cell) {
            line(&format!("first error: {}", escape::plain(error)));
        }
        if let Some(over) = grid.fine_over(cell) {
            line(&format!("fine over {over}"));
        }
    }
    out
}

//! Renders results as the Markdown file that is kept with the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::cell::{Judgement, Spread, cell_name, first_error, totals, verdict};
use super::grid::Grid;
use super::{escape, stock, words};
use crate::results::{Best, Carrier, Cell, Matrix, World};

const LEGEND: &str = "\
Each cell: runs in which a direct link stood, of all runs. `relay`: relayed, as theory has it. **Bold**: falls short. \
`8!`: no more than 8 runs completed. `+`: direct although theory allows a relay alone. Small, where it was measured: \
what stock rust-libp2p 0.57.1 punched, in network namespaces with kernel NAT, 10 ms per link.
";

/// Renders all results: a summary, the kinds, a table and times for each carrier, and every cell that falls short with
/// its reason.
///
/// `reasons` are Markdown, keyed by the cell's name as returned by [`cell_name`], such as `prc × sym, tcp`. The kinds
/// may be in either order.
pub fn markdown(matrix: &Matrix, reasons: &BTreeMap<String, String>) -> String {
    let grid = Grid::new(matrix);
    let mut out = about(matrix);
    out += &kinds(matrix);
    out += "\n## What gets through\n\n";
    out += LEGEND;
    for carrier in grid.carriers() {
        let _ = write!(out, "\n### {}\n\n", carrier.title());
        let _ = writeln!(out, "{}.", words::totals(&totals(matrix, carrier)));
        out += &triangle(&grid, carrier, counts);
        out += &apart(&grid, carrier);
        let times = triangle(&grid, carrier, to_direct);
        if !times.is_empty() {
            out += "\n<details><summary>Median time until a direct link stood</summary>\n";
            out += &times;
            out += "\n</details>\n";
        }
    }
    out += &shortfalls(&grid, reasons);
    out
}

fn about(matrix: &Matrix) -> String {
    let about = &matrix.about;
    let [date, commit, machine, conditions] = [
        &about.date,
        &about.commit,
        &about.machine,
        &about.conditions,
    ]
    .map(|text| escape::markdown(text));
    format!(
        "# Results of the NAT lab\n\n\
         {}\n\n\
         - Date: {date}\n- Commit: {commit}\n- Machine: {machine}\n- Links: {conditions}\n\
         - Each run moved {} bytes.\n{}",
        words::fine_pairs(matrix),
        about.bytes,
        about.world.as_ref().map(world).unwrap_or_default(),
    )
}

/// Lists the foreign nodes and the software.
fn world(world: &World) -> String {
    let mut out = format!("- Nodes: {}\n", words::world(world));
    for version in &world.versions {
        let _ = writeln!(out, "- Software: {}", escape::markdown(version));
    }
    out
}

fn kinds(matrix: &Matrix) -> String {
    let mut out =
        "\n## Kinds of NAT\n\n| kind | what it is | what the probe found |\n|-|-|-|\n".to_owned();
    for kind in &matrix.kinds {
        let [name, about] = [&kind.kind, &kind.about].map(|text| escape::markdown(text));
        let _ = writeln!(out, "| {name} | {about} | {} |", words::kind_in_words(kind));
    }
    out
}

/// Renders a triangle with the text that `show` returns for each cell.
fn triangle(grid: &Grid<'_>, carrier: Carrier, show: impl Fn(&Cell) -> String) -> String {
    if grid.names.is_empty() {
        return String::new();
    }
    let mut out = "\n| |".to_owned();
    for name in &grid.names {
        let _ = write!(out, " {} |", escape::markdown(name));
    }
    let _ = writeln!(out, "\n|-|{}", "-|".repeat(grid.names.len()));
    for (name, cells) in grid.rows(carrier) {
        let _ = write!(out, "| **{}** |", escape::markdown(name));
        let empty = grid.names.len() - cells.len();
        for text in cells
            .into_iter()
            .map(|cell| cell.map(&show).unwrap_or_default())
        {
            out += if text.is_empty() { "" } else { " " };
            out += &text;
            out += " |";
        }
        out += &" |".repeat(empty);
        out.push('\n');
    }
    out
}

fn apart(grid: &Grid<'_>, carrier: Carrier) -> String {
    let mut out = String::new();
    for (name, cell) in grid.apart(carrier) {
        if out.is_empty() {
            out += "\n| both peers in | direct | median time |\n|-|-|-|\n";
        }
        let _ = writeln!(
            out,
            "| **{}** | {} | {} |",
            escape::markdown(name),
            counts(cell),
            to_direct(cell)
        );
    }
    out
}

/// Returns the numbers of direct runs and of all runs, and the result of stock libp2p.
fn counts(cell: &Cell) -> String {
    let found = verdict(cell);
    let of_runs = format!("{}/{}", found.direct, found.runs);
    let ours = match (found.judgement, found.best) {
        (Judgement::Unmeasured, _) => "–".to_owned(),
        (Judgement::Good, Best::Relay) => "relay".to_owned(),
        (Judgement::Good, Best::Direct) => of_runs,
        (Judgement::Short, _) => format!("**{of_runs}**"),
        (Judgement::Broken, _) => format!("**{of_runs}, {}!**", found.complete),
        (Judgement::Better, _) => format!("{of_runs}+"),
    };
    match stock(&cell.kinds[0], &cell.kinds[1], cell.carrier) {
        Some((punched, runs)) => format!("{ours}<br><sub>{punched}/{runs}</sub>"),
        None => ours,
    }
}

fn to_direct(cell: &Cell) -> String {
    let median = |spread: Spread| words::time(spread.median);
    verdict(cell).times.direct.map(median).unwrap_or_default()
}

fn shortfalls(grid: &Grid<'_>, reasons: &BTreeMap<String, String>) -> String {
    let mut out = "\n## What falls short, and why\n\n".to_owned();
    let before = out.len();
    for cell in grid.carriers().flat_map(|carrier| grid.short(carrier)) {
        let found = verdict(cell);
        let _ = write!(
            out,
            "- **{}**: {}",
            escape::markdown(&cell_name(cell)),
            escape::markdown(&words::counts(cell, &found)),
        );
        for time in words::times(&found.times) {
            let _ = write!(out, "; {time}");
        }
        out += ".";
        if let Some(over) = grid.fine_over(cell) {
            let _ = write!(out, " Fine over {over}.");
        }
        if let Some(error) = first_error(cell) {
            let _ = write!(out, "\n  First error: {}", escape::markdown(error));
        }
        let _ = writeln!(out, "\n  *Why*: {}", reason(cell, reasons));
    }
    if out.len() == before {
        out += "Nothing does.\n";
    }
    out
}

fn reason(cell: &Cell, reasons: &BTreeMap<String, String>) -> String {
    let [first, second] = cell.kinds.clone();
    let turned = Cell {
        kinds: [second, first],
        runs: Vec::new(),
        ..*cell
    };
    let kept = [cell_name(cell), cell_name(&turned)]
        .into_iter()
        .find_map(|name| reasons.get(&name));
    match kept {
        Some(reason) => reason.split_whitespace().collect::<Vec<_>>().join(" "),
        None => "not explained yet".to_owned(),
    }
}

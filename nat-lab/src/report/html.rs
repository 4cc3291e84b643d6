//! Renders results as one self-contained HTML page.

use std::fmt::Write as _;

use super::cell::{Judgement, Spread, Verdict, cell_name, first_error, totals, verdict};
use super::grid::Grid;
use super::{escape, stock, words};
use crate::results::{Best, Carrier, Cell, Matrix};

const STYLE: &str = include_str!("page.css");

const LEGEND: &str = "<p>Each cell: runs in which a direct link stood, of all runs; below, the median time from the \
relayed link to the direct one; below that, where it was measured, what stock rust-libp2p 0.57.1 punched in network \
namespaces with kernel NAT, 10 ms per link. Open a cell for the rest.</p>\n<ul>\n\
<li>✓ every run completed, directly in at least 95 %</li>\n\
<li>relay: every run completed over a relay, as theory has it</li>\n\
<li>+ some were direct, although theory allows a relay alone</li>\n\
<li>▽ fewer than 95 % were direct</li>\n\
<li>✕ some did not complete</li>\n</ul>\n";

/// Returns the page: a summary, a table for each carrier, and the kinds.
pub fn html(matrix: &Matrix) -> String {
    let grid = Grid::new(matrix);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Results of the NAT lab</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
    );
    out += &about(matrix);
    out += "<section>\n<h2>How to read the tables</h2>\n";
    out += LEGEND;
    out += "</section>\n";
    for carrier in grid.carriers() {
        out += &section(matrix, &grid, carrier);
    }
    out += &kinds(matrix);
    out += "</main>\n</body>\n</html>\n";
    out
}

fn about(matrix: &Matrix) -> String {
    let about = &matrix.about;
    let mut out = format!(
        "<h1>Results of the NAT lab</h1>\n<p>{}</p>\n<dl>\n",
        words::fine_pairs(matrix)
    );
    let bytes = format!("{} bytes each", about.bytes);
    let world = about.world.as_ref();
    let nodes = world.map(|world| ("Nodes", words::world(world)));
    let software = world.map(|world| ("Software", world.versions.join("; ")));
    let foreign = nodes.iter().chain(&software);
    for (name, text) in [
        ("Date", &about.date),
        ("Commit", &about.commit),
        ("Machine", &about.machine),
        ("Links", &about.conditions),
        ("Runs", &bytes),
    ]
    .into_iter()
    .chain(foreign.map(|(name, text)| (*name, text)))
    {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escape::html(text));
    }
    out += "</dl>\n";
    out
}

fn section(matrix: &Matrix, grid: &Grid<'_>, carrier: Carrier) -> String {
    let key = carrier.key();
    let mut out = format!(
        "<section aria-labelledby=\"{key}\">\n<h2 id=\"{key}\">{}</h2>\n",
        carrier.title()
    );
    let _ = writeln!(out, "<p>{}.</p>", words::totals(&totals(matrix, carrier)));
    out += &triangle(grid, carrier);
    out += &apart(grid, carrier);
    out += &shortfalls(grid, carrier);
    out += "</section>\n";
    out
}

/// Opens a table that scrolls on narrow screens, also by keyboard.
fn open_table(caption: &str, columns: &[String]) -> String {
    let mut out = format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n\
         <table>\n<caption>{caption}</caption>\n<thead><tr>",
    );
    for column in columns {
        match column.as_str() {
            "" => out += NO_CELL,
            name => {
                let _ = write!(out, "<th scope=\"col\">{name}</th>");
            }
        }
    }
    out += "</tr></thead>\n<tbody>\n";
    out
}

const NO_CELL: &str = "<td class=\"none\"></td>";
const CLOSE_TABLE: &str = "</tbody>\n</table>\n</div>\n";

fn triangle(grid: &Grid<'_>, carrier: Carrier) -> String {
    if grid.names.is_empty() {
        return String::new();
    }
    let mut columns = vec![String::new()];
    columns.extend(grid.names.iter().map(|name| escape::html(name)));
    let mut out = open_table(
        &format!("Every kind with every other, over {}", carrier.title()),
        &columns,
    );
    for (name, cells) in grid.rows(carrier) {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape::html(name));
        let empty = grid.names.len() - cells.len();
        for cell in cells {
            out += "\n";
            out += &cell.map_or_else(|| NO_CELL.to_owned(), show);
        }
        if empty > 0 {
            let _ = write!(out, "\n<td class=\"none\" colspan=\"{empty}\"></td>");
        }
        out += "</tr>\n";
    }
    out += CLOSE_TABLE;
    out
}

fn apart(grid: &Grid<'_>, carrier: Carrier) -> String {
    let rows: Vec<_> = grid.apart(carrier).collect();
    if rows.is_empty() {
        return String::new();
    }
    let caption = format!("Peers that share one place, over {}", carrier.title());
    let mut out = open_table(&caption, &["both peers in".to_owned(), "direct".to_owned()]);
    for (name, cell) in rows {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th>\n{}</tr>",
            escape::html(name),
            show(cell)
        );
    }
    out += CLOSE_TABLE;
    out
}

/// Renders a cell: the main result, expandable details, and the result of stock libp2p.
fn show(cell: &Cell) -> String {
    let found = verdict(cell);
    let (class, text) = mark(&found);
    let mut out = format!(
        "<td class=\"{class}\"><details><summary>{text}<span class=\"hidden\">, {}</span>",
        words::judgement(&found),
    );
    if let Some(Spread { median, .. }) = found.times.upgrade {
        let _ = write!(out, "<small>{}</small>", words::time(median));
    }
    out += "</summary><ul>";
    for line in rest(cell, &found) {
        let _ = write!(out, "<li>{line}</li>");
    }
    out += "</ul></details>";
    if let Some((punched, runs)) = stock(&cell.kinds[0], &cell.kinds[1], cell.carrier) {
        let _ = write!(out, "<small class=\"stock\">stock {punched}/{runs}</small>");
    }
    out += "</td>";
    out
}

/// Returns the CSS class and the main text of a cell.
fn mark(found: &Verdict) -> (&'static str, String) {
    let marked = |mark: &str| {
        format!(
            "<span aria-hidden=\"true\">{mark}\u{a0}</span>{}/{}",
            found.direct, found.runs
        )
    };
    match (found.judgement, found.best) {
        (Judgement::Unmeasured, _) => ("relay", "no runs".to_owned()),
        (Judgement::Good, Best::Relay) => ("relay", "relay".to_owned()),
        (Judgement::Good, Best::Direct) => ("good", marked("✓")),
        (Judgement::Short, _) => ("short", marked("▽")),
        (Judgement::Broken, _) => ("broken", marked("✕")),
        (Judgement::Better, _) => ("better", marked("+")),
    }
}

/// Returns the details of a cell, escaped.
fn rest(cell: &Cell, found: &Verdict) -> Vec<String> {
    let mut lines = vec![
        format!("{}: {}", cell_name(cell), words::judgement(found)),
        words::counts(cell, found),
    ];
    lines.extend(words::times(&found.times));
    let relays = words::relays(cell);
    lines.extend((!relays.is_empty()).then(|| format!("through relays: {relays}")));
    lines.extend(first_error(cell).map(|error| format!("first error: {error}")));
    lines.iter().map(|line| escape::html(line)).collect()
}

fn shortfalls(grid: &Grid<'_>, carrier: Carrier) -> String {
    let mut out = String::new();
    for cell in grid.short(carrier) {
        if out.is_empty() {
            out += "<h3>What falls short</h3>\n<ul>\n";
        }
        let _ = write!(out, "<li>{}", rest(cell, &verdict(cell)).join("; "));
        if let Some(over) = grid.fine_over(cell) {
            let _ = write!(out, "; fine over {over}");
        }
        out += "</li>\n";
    }
    if !out.is_empty() {
        out += "</ul>\n";
    }
    out
}

fn kinds(matrix: &Matrix) -> String {
    let columns = ["kind", "what it is", "what the probe found"].map(str::to_owned);
    let mut out = "<section>\n<h2>Kinds of NAT</h2>\n".to_owned();
    out += &open_table("What each kind is, in the terms of RFC 4787", &columns);
    for kind in &matrix.kinds {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
            escape::html(&kind.kind),
            escape::html(&kind.about),
            escape::html(&words::kind_in_words(kind)),
        );
    }
    out += CLOSE_TABLE;
    out += "</section>\n";
    out
}

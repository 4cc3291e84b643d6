//! Assigns the cells of a matrix to the rows and columns of a table.

use super::cell::is_pair;
use crate::results::{Carrier, Cell, Matrix};

/// A matrix laid out as a triangle: row `i` has the columns `0..=i`.
pub(super) struct Grid<'a> {
    matrix: &'a Matrix,
    /// The names of the rows and columns.
    pub(super) names: Vec<&'a str>,
    /// Names that were paired only with themselves. They would leave the triangle empty.
    pub(super) apart: Vec<&'a str>,
}

impl<'a> Grid<'a> {
    /// Takes the pairs from the cells. Names come in the order of `kinds`, then in that of the cells.
    pub(super) fn new(matrix: &'a Matrix) -> Self {
        let mut all: Vec<&str> = Vec::new();
        let kinds = matrix.kinds.iter().map(|kind| &kind.kind);
        for name in kinds.chain(matrix.cells.iter().flat_map(|cell| &cell.kinds)) {
            if !all.contains(&name.as_str()) {
                all.push(name);
            }
        }
        let has = |name: &str, unlike: bool| {
            let of = |cell: &Cell| cell.kinds.iter().any(|kind| kind == name);
            matrix
                .cells
                .iter()
                .any(|cell| of(cell) && (cell.kinds[0] != cell.kinds[1]) == unlike)
        };
        let (names, rest): (Vec<&str>, Vec<&str>) =
            all.into_iter().partition(|name| has(name, true));
        let apart = rest.into_iter().filter(|name| has(name, false)).collect();
        Self {
            matrix,
            names,
            apart,
        }
    }

    /// Returns the carriers that have cells.
    pub(super) fn carriers(&self) -> impl Iterator<Item = Carrier> {
        let used = |carrier: &Carrier| {
            self.matrix
                .cells
                .iter()
                .any(|cell| cell.carrier == *carrier)
        };
        Carrier::ALL.into_iter().filter(used)
    }

    /// Returns the cell of a pair, in either order.
    pub(super) fn at(&self, carrier: Carrier, pair: [&str; 2]) -> Option<&'a Cell> {
        let cells = &mut self.matrix.cells.iter();
        cells.find(|cell| cell.carrier == carrier && is_pair(cell, pair))
    }

    /// Returns the rows of the triangle, each with its name and its cells.
    pub(super) fn rows(
        &self,
        carrier: Carrier,
    ) -> impl Iterator<Item = (&'a str, Vec<Option<&'a Cell>>)> {
        self.names.iter().enumerate().map(move |(row, name)| {
            let columns = self.names.iter().take(row + 1);
            (
                *name,
                columns
                    .map(|column| self.at(carrier, [*column, *name]))
                    .collect(),
            )
        })
    }

    /// Returns the cells of the names in `apart`.
    pub(super) fn apart(&self, carrier: Carrier) -> impl Iterator<Item = (&'a str, &'a Cell)> {
        let cell = move |name: &&'a str| Some((*name, self.at(carrier, [*name, *name])?));
        self.apart.iter().filter_map(cell)
    }

    /// Returns the cells that fall short, in the order of the matrix.
    pub(super) fn short(&self, carrier: Carrier) -> impl Iterator<Item = &'a Cell> {
        let short =
            move |cell: &&Cell| cell.carrier == carrier && super::verdict(cell).falls_short();
        self.matrix.cells.iter().filter(short)
    }

    /// Returns the carriers over which the pair of a cell is fine, as text. `None` if there are none.
    pub(super) fn fine_over(&self, cell: &Cell) -> Option<String> {
        let [first, second] = &cell.kinds;
        let cells = self
            .matrix
            .cells
            .iter()
            .filter(|other| is_pair(other, [first, second]));
        let over = super::pair_verdict(cells).over;
        let names: Vec<_> = over.into_iter().map(Carrier::alone).collect();
        (!names.is_empty()).then(|| names.join(" and over "))
    }
}

//! Tables of plain text: columns as wide as they must be, numbers to the right.

use std::fmt::Write;

/// Between two columns.
const GAP: usize = 2;

/// Before the first.
const INDENT: usize = 2;

/// How a column stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows under a heading.
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell for each column. An empty one is shown as `-`, unless its column has no heading.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Writes it, without the columns in which no row says anything.
    pub(super) fn write(&self, out: &mut String) {
        let is_used = |column: &usize| self.rows.iter().any(|row| !row[*column].is_empty());
        let used: Vec<usize> = (0..self.columns.len()).filter(is_used).collect();
        let shown = |row: &[String], column: usize| match (row[column].as_str(), self.columns[column].0) {
            ("", heading) if !heading.is_empty() => "-".to_owned(),
            (cell, _) => cell.to_owned(),
        };
        let heading = used.iter().map(|column| self.columns[*column].0.to_owned()).collect();
        let rows = self.rows.iter().map(|row| used.iter().map(|column| shown(row, *column)).collect());
        let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
        let width = |place: usize| lines.iter().map(|line| line[place].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..used.len()).map(width).collect();
        for line in &lines {
            let mut text = " ".repeat(INDENT);
            for (place, cell) in line.iter().enumerate() {
                if place > 0 {
                    text.push_str(&" ".repeat(GAP));
                }
                let _ = match self.columns[used[place]].1 {
                    Side::Left => write!(text, "{cell:<width$}", width = widths[place]),
                    Side::Right => write!(text, "{cell:>width$}", width = widths[place]),
                };
            }
            let _ = writeln!(out, "{}", text.trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_empty_ones_are_left_out() {
        let mut table =
            Table::new(&[("name", Side::Left), ("n", Side::Right), ("none", Side::Left), ("x", Side::Left)]);
        table.row(vec!["é".to_owned(), "1".to_owned(), String::new(), "a".to_owned()]);
        table.row(vec!["a long one".to_owned(), "12".to_owned(), String::new(), String::new()]);
        let mut text = String::new();
        table.write(&mut text);
        assert_eq!(text, "  name         n  x\n  é            1  a\n  a long one  12  -\n");
    }
}

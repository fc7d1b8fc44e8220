//! Tables of text with aligned columns.

use std::borrow::Cow;

use crate::printable::printable;

/// Formats rows of equal length, of which the first is the header, as lines with aligned columns. Cells may contain text
/// from guests: control characters are made visible.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().map(|cell: &String| printable(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column| rows.iter().filter_map(|row| row.get(column)).map(|cell: &Cow<'_, str>| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<Cow<'_, str>>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

/// A row of these cells.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let text = table(&[row(["SERVICE", "PORT"]), row(["a", "8000"]), row(["inventory", "1"])]);
        assert_eq!(text, "SERVICE    PORT\na          8000\ninventory  1\n");
    }

    #[test]
    fn control_characters_in_cells_become_visible() {
        assert_eq!(table(&[row(["GET /\u{1b}[2J\n{id}", "x"])]), "GET /␛[2J␊{id}  x\n");
    }
}

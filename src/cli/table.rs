//! Aligns rows of text in columns.

use std::fmt::Write as _;

/// The widest cell that widens its column, in characters: one long name would push all other columns off the screen.
const WIDEST: usize = 48;

/// Formats the rows as lines, indented by two spaces, each column as wide as its widest cell up to [`WIDEST`].
pub(super) fn text<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.filter(|width| *width <= WIDEST).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "  {cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_a_very_long_cell_does_not_widen_its_column() {
        let rows =
            [["a".to_owned(), "b".to_owned()], ["cdé".to_owned(), String::new()], ["x".repeat(70), "y".to_owned()]];
        assert_eq!(text(&rows), format!("  a    b\n  cdé\n  {}  y\n", "x".repeat(70)));
    }
}

//! Tables: aligned text for people, JSON for programs.
//!
//! In: a title, columns and rows. Out: `Display` and `Serialize`.

use serde::Serialize;
use std::fmt;

/// Figures of one benchmark.
#[derive(Debug, Serialize)]
pub struct Table {
    title: String,
    /// What has to be known to read the figures.
    notes: Vec<String>,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One field of a table.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Flush left.
    Text(String),
    /// Flush right; three significant digits are shown, JSON has them all.
    Number(f64),
    /// Flush right, shown in full.
    Count(u64),
    /// Not measured.
    Absent,
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        let columns = columns.to_vec();
        Self { title: title.into(), notes: Vec::new(), columns, rows: Vec::new() }
    }

    /// Adds a line below the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a row with one cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<_> = cells.into_iter().collect();
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Absent, Self::Number)
    }
}

impl From<Option<u64>> for Cell {
    fn from(count: Option<u64>) -> Self {
        count.map_or(Self::Absent, Self::Count)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) if number.abs() >= 100.0 => f.write_str(&grouped(*number)),
            Self::Number(number) if number.abs() >= 10.0 => write!(f, "{number:.1}"),
            Self::Number(number) => write!(f, "{number:.2}"),
            Self::Count(count) => f.write_str(&group(&count.to_string())),
            Self::Absent => f.write_str("-"),
        }
    }
}

/// Without a fraction, with thousands separated.
fn grouped(number: f64) -> String {
    group(&format!("{number:.0}"))
}

fn group(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.columns.iter().map(|name| Cell::from(*name)).collect();
        let lines: Vec<Vec<Cell>> = std::iter::once(head).chain(self.rows.clone()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| lines.iter().map(|line| width(&line[column])).max().unwrap_or_default())
            .collect();
        writeln!(f, "{}", self.title)?;
        for line in &lines {
            let mut text = String::from(" ");
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                // Names of cases stand on the left, figures and their heads on the right.
                text += &match column {
                    0 => format!(" {:<width$}", cell.to_string()),
                    _ => format!("  {:>width$}", cell.to_string()),
                };
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

fn width(cell: &Cell) -> usize {
    cell.to_string().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("Speed", &["case", "per second", "ratio"]);
        table.row(["short".into(), Cell::Number(1_234_567.8), Cell::Number(0.456)]);
        table.row(["a longer one".into(), Cell::Count(100), Cell::Absent]);
        table.note("All of it.");
        table
    }

    #[test]
    fn columns_are_aligned_and_figures_stand_on_the_right() {
        let expected = "Speed\n  \
            case          per second  ratio\n  \
            short          1,234,568   0.46\n  \
            a longer one         100      -\n  \
            All of it.\n";
        assert_eq!(table().to_string(), expected);
    }

    #[test]
    fn json_keeps_all_digits() {
        let json = serde_json::to_value(table()).unwrap();
        assert_eq!(json["rows"][0][1], 1_234_567.8);
        assert_eq!(json["rows"][1], serde_json::json!(["a longer one", 100, null]));
        assert_eq!(json["columns"][2], "ratio");
    }
}

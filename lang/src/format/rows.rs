//! The rows of a statement without templates: one for each line of text that it has.

use super::lines::{Line, Piece, PieceKind, column_after};

/// Columns behind which nothing is aligned any more: one long row would push all others out of sight.
pub(super) const MAX_COLUMN: usize = 100;

/// One level of indentation.
pub(super) const INDENT: usize = 4;

/// A line of text.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Width of the whitespace before it.
    indent: usize,
    pub cells: Vec<Cell>,
    /// Whether it ends in a backslash.
    continues: bool,
}

/// A word or a comment.
#[derive(Debug)]
pub(super) struct Cell {
    pub text: String,
    /// Where it starts in the source.
    pub column: usize,
    /// Whether more than one blank stands before it.
    pub is_padded: bool,
    /// Column, without the indentation, to pad it to.
    pub pad_to: Option<usize>,
}

impl Cell {
    pub(super) fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl Row {
    /// Width up to the cell `idx`, with one blank between cells.
    pub(super) fn width_before(&self, idx: usize) -> usize {
        self.cells.iter().take(idx).map(|cell| cell.width() + 1).sum::<usize>().saturating_sub(1)
    }

    fn width(&self) -> usize {
        self.width_before(self.cells.len())
    }

    /// Writes the cells; `padding` is in front of them.
    pub(super) fn write(&self, padding: usize, out: &mut String) {
        pad(out, padding);
        let mut column = 0;
        for (idx, cell) in self.cells.iter().enumerate() {
            if idx > 0 {
                let to = cell.pad_to.unwrap_or(0).max(column + 1);
                pad(out, to - column);
                column = to;
            }
            out.push_str(&cell.text);
            column += cell.width();
        }
    }
}

/// The rows of a plain line.
pub(super) fn rows(line: &Line<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = Row::default();
    let mut column = 0;
    let mut gap: Option<&str> = None;
    for Piece { kind, raw, .. } in &line.head {
        if let PieceKind::Blank = kind {
            let mut parts = raw.split('\n');
            let last = parts.next_back().unwrap_or_default();
            for _ in parts {
                rows.push(Row { continues: true, ..std::mem::take(&mut row) });
            }
            gap = Some(last);
            column = column_after(column, raw);
            if row.cells.is_empty() {
                row.indent = column;
            }
            continue;
        }
        // The end of a comment says nothing, whatever it is.
        let text = if let PieceKind::Comment = kind { raw.trim_end_matches([' ', '\t', '\r']) } else { raw };
        let starts = gap.is_some() || matches!(kind, PieceKind::Comment);
        match row.cells.last_mut() {
            Some(cell) if !starts => cell.text.push_str(text),
            _ => row.cells.push(Cell {
                text: text.to_owned(),
                column,
                is_padded: gap.is_some_and(|gap| gap.len() > 1 || gap == "\t"),
                pad_to: None,
            }),
        }
        column = column_after(column, raw);
        gap = None;
    }
    rows.push(row);
    trim(&mut rows, gap.is_some());
    rows
}

/// Removes continuations that continue nothing. `blank_at_end`: whitespace stands behind the last word.
fn trim(rows: &mut Vec<Row>, blank_at_end: bool) {
    while rows.len() > 1 && rows.last().is_some_and(|row| row.cells.is_empty()) {
        rows.pop();
    }
    let n_empty = rows.iter().take_while(|row| row.cells.is_empty()).count();
    rows.drain(..n_empty.min(rows.len() - 1));
    let Some(last) = rows.last_mut() else { return };
    last.continues = false;
    // A backslash or CR must not get to the newline: they would make something else of it.
    if let Some(cell) = last.cells.last_mut()
        && blank_at_end
        && cell.text.ends_with(['\\', '\r'])
    {
        cell.text.push(' ');
    }
}

/// Writes a statement of several rows. Each continuation is indented once more than the first row, deeper ones
/// keep what they have more than the others. Their backslashes stand in one column.
pub(super) fn write_all(rows: &[Row], level: usize, out: &mut String) {
    let Some((first, rest)) = rows.split_first() else { return };
    let least = rest.iter().filter(|row| !row.cells.is_empty()).map(|row| row.indent).min().unwrap_or(0);
    let indent = |row: &Row| (level + 1) * INDENT + row.indent.saturating_sub(least);
    let ends = rest.iter().filter(|row| row.continues && !row.cells.is_empty());
    let ends = ends.map(|row| indent(row) + row.width());
    let column = ends.filter(|width| *width <= MAX_COLUMN).max().map_or(0, |width| width + 1);
    let end = |row: &Row, padding: usize, out: &mut String| {
        row.write(padding, out);
        if row.continues {
            let width = padding + row.width();
            pad(out, column.max(width + 1) - width);
            out.push_str("\\\n");
        }
    };
    end(first, level * INDENT, out);
    for row in rest {
        match row.cells.is_empty() {
            true => end(row, (level + 1) * INDENT - 1, out),
            false => end(row, indent(row), out),
        }
    }
}

fn pad(out: &mut String, width: usize) {
    out.extend(std::iter::repeat_n(' ', width));
}

//! Columns of consecutive statements that are one row each.

use super::rows::{MAX_COLUMN, Row};

/// Sets where the cells of consecutive rows stand.
pub(super) fn align(rows: &mut [Row]) {
    let mut start = 0;
    while start < rows.len() {
        let is_mount = is_mount(&rows[start]);
        let len = rows[start..].iter().take_while(|row| self::is_mount(row) == is_mount).count();
        let group = &mut rows[start..start + len];
        if is_mount {
            align_mounts(group)
        } else {
            keep_columns(group)
        }
        start += len;
    }
}

fn is_mount(row: &Row) -> bool {
    row.cells.first().is_some_and(|cell| cell.text == "MOUNT")
}

/// Options, names and paths of MOUNTs always stand in columns.
fn align_mounts(rows: &mut [Row]) {
    let n_words = |row: &Row| row.cells.iter().filter(|cell| !cell.text.starts_with('#')).count();
    for from_end in [2, 1] {
        let target = |row: &Row| n_words(row).checked_sub(from_end).filter(|idx| *idx > 0);
        let widths = rows.iter().filter_map(|row| Some(end_of(row, target(row)?)));
        let Some(width) = widths.filter(|width| *width <= MAX_COLUMN).max() else { continue };
        for row in rows.iter_mut() {
            if let Some(cell) = target(row).and_then(|idx| row.cells.get_mut(idx)) {
                cell.pad_to = Some(width + 1);
            }
        }
    }
}

/// Where the cell before `idx` ends.
fn end_of(row: &Row, idx: usize) -> usize {
    let cells = row.cells.iter().take(idx).enumerate();
    cells.fold(0, |column, (idx, cell)| match idx {
        0 => cell.width(),
        _ => cell.pad_to.unwrap_or(0).max(column + 1) + cell.width(),
    })
}

/// Where an author has aligned words or comments of neighbours, they stay aligned: one column of each row, the
/// last that has more than one blank before it. Rows without such a gap hold the column of their neighbours.
fn keep_columns(rows: &mut [Row]) {
    let targets: Vec<Option<usize>> = rows
        .iter()
        .map(|row| row.cells.iter().skip(1).rposition(|cell| cell.is_padded).map(|it| it + 1))
        .collect();
    let column = |rows: &[Row], idx: usize| Some(rows.get(idx)?.cells.get((*targets.get(idx)?)?)?.column);
    let mut next = 0;
    while next < rows.len() {
        let Some(wanted) = column(rows, next) else {
            next += 1;
            continue;
        };
        // The cell of a row that stands in the wanted column, if the row wants no other.
        let member = |rows: &[Row], idx: usize| {
            if column(rows, idx).is_some_and(|it| it != wanted) {
                return None;
            }
            let cells = &rows.get(idx)?.cells;
            cells.binary_search_by_key(&wanted, |cell| cell.column).ok().filter(|cell| *cell > 0)
        };
        let first = (0..next).rev().take_while(|idx| member(rows, *idx).is_some()).last().unwrap_or(next);
        let end = (next..rows.len()).find(|idx| member(rows, *idx).is_none()).unwrap_or(rows.len());
        let members: Vec<_> = (first..end).filter_map(|idx| Some((idx, member(rows, idx)?))).collect();
        let width = members.iter().map(|(idx, cell)| rows[*idx].width_before(*cell)).max().unwrap_or(0);
        if members.len() > 1 && width <= MAX_COLUMN {
            for (idx, cell) in members {
                rows[idx].cells[cell].pad_to = Some(width + 1);
            }
        }
        next = end;
    }
}

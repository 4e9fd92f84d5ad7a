//! Trees as snapshots.

use super::*;

fn tree(text: &str, mode: Mode) -> String {
    let parse = parse(text, mode);
    let errors: Vec<_> = parse
        .errors
        .iter()
        .map(|e| format!("{} {:?} {} ({})\n", e.code.id(), e.range, e.message, e.label))
        .collect();
    format!("{}{}", dump(&parse.syntax()), errors.concat())
}

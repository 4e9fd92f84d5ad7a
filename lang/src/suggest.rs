//! "Did you mean": the nearest known word to a misspelt one.

/// The candidate that most resembles `word`, if one is close enough to be a slip of the pen.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    let near = candidates.into_iter().filter(|it| *it != word).map(|it| (distance(word, it), it));
    near.filter(|(d, it)| *d <= limit && *d < it.chars().count()).min().map(|(_, it)| it)
}

/// Edits between two words: insert, delete, replace a character, or swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_nothing_else() {
        for (word, candidates, expected) in [
            ("tagret", &["target", "cache"][..], Some("target")),
            ("usrname", &["username", "password"], Some("username")),
            ("x", &["y"], None),
            ("output", &["input", "outputs"], Some("outputs")),
            ("colour", &["target"], None),
        ] {
            assert_eq!(nearest(word, candidates.iter().copied()), expected, "{word}");
        }
    }
}

//! What the author most likely meant: instructions and options that do not exist here.

use super::kind::SyntaxKind::{self, *};

/// The node of an instruction.
pub(super) fn instruction(word: &str) -> Option<SyntaxKind> {
    // Most words differ in the first byte.
    let mut known =
        INSTRUCTIONS.iter().filter(|(name, _)| name.as_bytes().first() == word.as_bytes().first());
    known.find(|(name, _)| *name == word).map(|it| it.1)
}

/// Every instruction with its node.
pub(super) const INSTRUCTIONS: &[(&str, SyntaxKind)] = &[
    ("FROM", FROM_STMT),
    ("RUN", RUN_STMT),
    ("CMD", CMD_STMT),
    ("ENTRYPOINT", ENTRYPOINT_STMT),
    ("ENV", ENV_STMT),
    ("WORKDIR", WORKDIR_STMT),
    ("WRITE", WRITE_STMT),
    ("MKDIR", MKDIR_STMT),
    ("COPY", COPY_STMT),
    ("RENDER", RENDER_STMT),
    ("INCLUDE", INCLUDE_STMT),
    ("FETCH", FETCH_STMT),
    ("KEEP", KEEP_STMT),
    ("MOUNT", MOUNT_STMT),
];

/// Instructions of other tools and times.
const FOREIGN: &[(&str, &str)] = &[
    ("ADD", "use COPY for project files and FETCH for downloads"),
    ("ARG", "use a template variable, `$ set name = \"value\"`, or the arguments of INCLUDE"),
    ("EXPOSE", "there are no ports to declare here; leave the line out"),
    ("HEALTHCHECK", "there are no health checks here; let a service manager watch the program"),
    ("INVOKE", "INVOKE was removed; use INCLUDE for a `.rinc` file or RUN for a program"),
    ("LABEL", "there are no labels here; use a comment"),
    ("MAINTAINER", "there are no labels here; use a comment"),
    ("ONBUILD", "put the statements into a `.rinc` file and INCLUDE it"),
    ("SHELL", "RUN starts programs without a shell; write `RUN bash -c \"…\"` where you need one"),
    ("STOPSIGNAL", "there are no stop signals here; leave the line out"),
    ("USER", "every step runs as root; use `--chown` for files, or `RUN su user -c \"…\"`"),
    ("VOLUME", "use MOUNT for what a container gets from outside"),
];

/// Advice for a wrong word.
pub(super) struct Advice {
    /// For people.
    pub(super) hint: String,
    /// What to write instead of the word, if it is that simple.
    pub(super) instead: Option<String>,
}

/// What to write instead of a word that is no instruction.
pub(super) fn unknown_instruction(word: &str) -> Option<Advice> {
    if let Some(name) = word.strip_suffix('\\')
        && is_instruction(name)
    {
        let hint = format!("a line continues only if a blank stands before the backslash: `{name} \\`");
        return Some(Advice { hint, instead: Some(format!("{name} \\")) });
    }
    let upper = word.to_uppercase();
    if is_instruction(&upper) {
        let hint = format!("instructions are upper case: write `{upper}`");
        return Some(Advice { hint, instead: Some(upper) });
    }
    if let Some((_, hint)) = FOREIGN.iter().find(|(name, _)| *name == upper) {
        return Some(Advice { hint: (*hint).to_string(), instead: None });
    }
    did_you_mean("", &upper, INSTRUCTIONS.iter().map(|(name, _)| *name))
}

/// `did you mean …`, if one of the names is near; `prefix` stands before each of them.
pub(super) fn did_you_mean<'a>(
    prefix: &str,
    word: &str,
    names: impl Iterator<Item = &'a str>,
) -> Option<Advice> {
    let limit = if word.chars().count() <= 4 { 1 } else { 2 };
    let (distance, near) = names.map(|name| (distance(word, name), name)).min()?;
    (distance <= limit).then(|| {
        let instead = format!("{prefix}{near}");
        Advice { hint: format!("did you mean `{instead}`?"), instead: Some(instead) }
    })
}

fn is_instruction(word: &str) -> bool {
    INSTRUCTIONS.iter().any(|(name, _)| *name == word)
}

/// Edit distance with swaps of neighbours. Long words are never near.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().take(32).collect(), b.chars().take(32).collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<_> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = last;
        last = row;
    }
    last[b.len()]
}

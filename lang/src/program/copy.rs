//! Sources of a COPY: files that are there, or patterns and what they find; and what `--exclude` leaves out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diag::{Code, Diagnostic, Label};
use crate::paths::join;
use crate::pattern::{self, Excludes, FindError};
use crate::source::Span;
use crate::stmt::Spanned;
use crate::world::{FileKind, World};

/// What the operands of a COPY come to.
#[derive(Default)]
pub(super) struct Copied {
    /// In the order of the operands; what one pattern finds is sorted.
    pub sources: Vec<Spanned<PathBuf>>,
    /// As written, with a slash if a pattern found something: however many files that is, they go into a directory.
    pub dest: String,
    pub exclude: Excludes,
    pub problems: Vec<Diagnostic>,
}

/// Finds the sources of a COPY in a file of `dir`. A source that exists is no pattern.
pub(super) fn expand(
    world: &dyn World,
    dir: &Path,
    sources: &[Spanned<String>],
    exclude: &[Spanned<String>],
    dest: String,
) -> Copied {
    let mut copied = Copied { dest, ..Copied::default() };
    for pattern in exclude {
        if let Err(err) = copied.exclude.add(&pattern.value) {
            let message = format!("`{}` is no pattern: {err}", pattern.value);
            copied.problems.push(
                Diagnostic::new(Code::BadPattern, message, pattern.span, "this pattern").with_hint(
                    "as in .gitignore: `*.o` leaves out that name at any depth, `a/b` that path below the source, \
                     `x/` directories only",
                ),
            );
        }
    }
    for source in sources {
        let path = join(dir, Path::new(&source.value));
        if world.kind(&path).is_some() {
            copied.sources.push(Spanned { value: path, span: source.span });
        } else if pattern::is_pattern(&source.value) {
            copied.pattern(world, dir, source);
        } else {
            copied.problems.push(missing(&path, source.span));
        }
    }
    copied
}

impl Copied {
    fn pattern(&mut self, world: &dyn World, dir: &Path, source: &Spanned<String>) {
        let Spanned { value: text, span } = source;
        let problem = |message| Diagnostic::new(Code::BadPattern, message, *span, "this pattern");
        let mut found = match pattern::find(world, dir, text) {
            Ok(found) => found,
            Err(FindError::Pattern(err)) => {
                return self.problems.push(problem(format!("`{text}` is no pattern: {err}")).with_hint(
                    "`*` and `?` match in a name, `[a-z]` one character, `**` whole directories",
                ));
            }
            Err(err) => {
                return self.problems.push(Diagnostic::new(
                    Code::FileNotFound,
                    err.to_string(),
                    *span,
                    "this pattern",
                ));
            }
        };
        if found.is_empty() {
            return self.problems.push(problem(format!("nothing matches `{text}`")).with_hint(
                "patterns count from the directory of the file they are in; names with a leading dot are matched \
                 by a dot only",
            ));
        }
        let is_dir = |path: &Path| world.kind(path) == Some(FileKind::Dir);
        found.retain(|path| {
            let name = path.file_name().unwrap_or_default();
            !self.exclude.excludes(Path::new(name), is_dir(path) && !world.is_symlink(path))
        });
        if found.is_empty() {
            let message = format!("--exclude leaves nothing of `{text}`");
            return self.problems.push(Diagnostic::new(Code::Ineffective, message, *span, "copies nothing"));
        }
        let mut names = BTreeMap::new();
        for path in found.iter().filter(|path| !is_dir(path)) {
            if let Some(other) = names.insert(path.file_name(), path) {
                let message = format!("`{text}` finds two files of one name");
                let mut problem = problem(message).with_hint("name them one by one, or copy the directory");
                let text = format!("{} and {}", other.display(), path.display());
                problem.labels = vec![Label { span: *span, text }];
                return self.problems.push(problem);
            }
        }
        if !self.dest.ends_with('/') {
            self.dest.push('/');
        }
        self.sources.extend(found.into_iter().map(|value| Spanned { value, span: *span }));
    }
}

fn missing(path: &Path, span: Span) -> Diagnostic {
    let message = format!("could not open {}: no such file or directory", path.display());
    Diagnostic::new(Code::FileNotFound, message, span, "this source does not exist")
        .with_hint("sources count from the directory of the file they are named in")
}

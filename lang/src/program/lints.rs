//! Warnings for statements that are correct and do nothing, or not what they seem to do.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{Action, ActionKind, Program};
use crate::diag::{Code, Diagnostic};
use crate::noise;
use crate::paths::join;
use crate::source::{Sources, Span};
use crate::stmt::Arg;

/// What is odd about a program as a whole.
pub(super) fn program(program: &Program, sources: &Sources) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    settings(&program.actions, &mut problems);
    volatile(&program.actions, &mut problems);
    kept(&program.actions, &mut problems);
    mounts(program, &mut problems);
    for action in &program.actions {
        if let ActionKind::Copy { sources: copied, .. } = &action.kind {
            for source in copied {
                let from = sources.path(source.span.file);
                let problem = outside(from, &source.value, source.span);
                problems.extend(problem.map(|it| it.with_stack(&action.stack)));
            }
        }
    }
    problems
}

/// Arguments that the called file has no use for: their names are nowhere in its text.
pub(super) fn unmentioned(args: &[Arg], text: &str) -> Vec<Diagnostic> {
    // These may see every variable without naming it.
    let words: BTreeSet<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|it| !it.is_empty()).collect();
    if ["include", "import", "extends", "debug", "context"].iter().any(|it| words.contains(it)) {
        return Vec::new();
    }
    let unknown = args.iter().filter(|arg| !words.contains(arg.name.value.as_str()));
    let problems = unknown.map(|arg| {
        let message = format!("the file does not use `{}`", arg.name.value);
        Diagnostic::new(Code::UnusedArgument, message, arg.name.span, "given for nothing")
            .with_hint("leave it out, or is it spelt differently there?")
    });
    problems.collect()
}

/// A file that others do not have when they have the project. `from` is the file with the statement.
pub(super) fn outside(from: &Path, target: &Path, span: Span) -> Option<Diagnostic> {
    let ups = |path: &Path| path.components().take_while(|it| *it == Component::ParentDir).count();
    // The directory of a linked package may itself be anywhere.
    let is_outside = match (from.is_absolute(), target.is_absolute()) {
        (false, true) => true,
        (false, false) => ups(target) > ups(from),
        (true, _) => false,
    };
    is_outside.then(|| {
        let message = format!("{} is not part of the project", target.display());
        Diagnostic::new(Code::OutsideProject, message, span, "read from outside")
            .with_hint("who has only the project cannot build this; put a copy into it, or link a package")
    })
}

/// ENV and WORKDIR with nothing behind them that they could act on.
fn settings(actions: &[Action], problems: &mut Vec<Diagnostic>) {
    for (at, action) in actions.iter().enumerate() {
        let mut rest = actions.get(at + 1..).unwrap_or_default().iter();
        let (instruction, used, hint) = match &action.kind {
            ActionKind::Env(_) => (
                "ENV",
                rest.any(|it| matches!(it.kind, ActionKind::Run(_))),
                "it holds for RUN statements behind it in this file, and is not kept in the image",
            ),
            ActionKind::Workdir(_) => (
                "WORKDIR",
                rest.any(|it| {
                    !matches!(it.kind, ActionKind::Env(_) | ActionKind::Workdir(_) | ActionKind::Keep(_))
                }),
                "it holds for statements behind it in this file, and is not kept in the image",
            ),
            _ => continue,
        };
        if !used {
            let message = format!("{instruction} has no effect at the end of a layer");
            let problem =
                Diagnostic::new(Code::Ineffective, message, action.span, "nothing here depends on it");
            problems.push(problem.with_hint(hint).with_stack(&action.stack));
        }
    }
}

/// What is written where nothing stays, with no program behind it that could use it meanwhile.
fn volatile(actions: &[Action], problems: &mut Vec<Diagnostic>) {
    let last_run = actions.iter().rposition(|it| matches!(it.kind, ActionKind::Run(_)));
    let mut cwd = Path::new("/").to_path_buf();
    for (at, action) in actions.iter().enumerate() {
        let path = match &action.kind {
            ActionKind::Workdir(path) => {
                cwd = join(&cwd, Path::new(path));
                continue;
            }
            ActionKind::Write { path, .. } | ActionKind::Mkdir { path, .. } => path,
            ActionKind::Copy { dest, .. } | ActionKind::Fetch { dest, .. } => dest,
            ActionKind::Run(_) | ActionKind::Env(_) | ActionKind::Keep(_) => continue,
        };
        let whole = join(&cwd, Path::new(path));
        let makes_dir = matches!(action.kind, ActionKind::Mkdir { .. });
        // The directories themselves are kept when a MKDIR asks for them.
        let is_kept = |dir: &Path| makes_dir && whole == dir;
        let into = volatile_dir(&whole).filter(|dir| !is_kept(dir));
        if let Some(dir) = into
            && last_run.is_none_or(|run| run < at)
        {
            let message = format!("{} is not kept in the layer", whole.display());
            let label = format!("{} is empty again after the build", dir.display());
            let problem = Diagnostic::new(Code::Vanishes, message, action.span, label).with_hint(
                "programs make what they need there when they start, for example through tmpfiles.d(5)",
            );
            problems.push(problem.with_stack(&action.stack));
        }
    }
}

/// The directory that is no part of a layer and has `path`, or is it.
fn volatile_dir(path: &Path) -> Option<PathBuf> {
    noise::VOLATILE.iter().map(|it| Path::new("/").join(it)).find(|dir| path.starts_with(dir))
}

/// KEEP of what stays anyway, or cannot stay.
fn kept(actions: &[Action], problems: &mut Vec<Diagnostic>) {
    for action in actions {
        let ActionKind::Keep(paths) = &action.kind else { continue };
        for path in paths {
            let whole = join(Path::new("/"), Path::new(&path.value));
            let (label, hint) = match volatile_dir(&whole) {
                Some(dir) => (
                    "cannot be kept",
                    format!("{} is no part of the layer: something else is mounted there", dir.display()),
                ),
                None if noise::concerns(whole.strip_prefix("/").unwrap_or(&whole)) => continue,
                None => (
                    "stays without it",
                    "KEEP is for what a layer loses otherwise, such as /etc/machine-id; a path is no pattern"
                        .to_owned(),
                ),
            };
            let message = format!("KEEP has no effect on {}", whole.display());
            let problem = Diagnostic::new(Code::Ineffective, message, path.span, label);
            problems.push(problem.with_hint(hint).with_stack(&action.stack));
        }
    }
}

/// Mounts that cover others. Two of one name are fine: a builder may want its input in two forms.
fn mounts(program: &Program, problems: &mut Vec<Diagnostic>) {
    for (at, later) in program.mounts.iter().enumerate() {
        let mount = &later.value.mount;
        let path = join(Path::new("/"), Path::new(&mount.path.value));
        for earlier in program.mounts.iter().take(at) {
            let other = &earlier.value.mount;
            let covered = join(Path::new("/"), Path::new(&other.path.value));
            if !covered.starts_with(&path) {
                continue;
            }
            let message = format!("the mount `{}` hides the mount `{}`", mount.name.value, other.name.value);
            let problem = Diagnostic::new(Code::MountClash, message, mount.path.span, "mounted over it")
                .with_label(other.path.span, "cannot be seen any more");
            let problem = problem.with_hint(match covered == path {
                true => "mount them at different places",
                false => "mounts are made in the order of the file: put the outer one first",
            });
            problems.push(problem);
        }
    }
}

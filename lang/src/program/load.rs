//! Loading of a module: read, render, parse, expand INCLUDEs, render RENDERs, collect every problem.

use std::collections::BTreeSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::value::Value;

use super::{
    Action, ActionKind, Base, ModuleId, Parameters, Program, ProgramMount, args, copy, fetch, lints, near,
};
use crate::def::{Extension, ModuleName};
use crate::diag::{Code, Diagnostic, Fix, Severity};
use crate::paths::{dir_of, join};
use crate::source::{FileId, Sources, Span};
use crate::stmt::{Arg, FromSource, ImageFile, Inst, Mount, Spanned, Statement};
use crate::syntax;
use crate::template::{self, Context, LogMessage, Reach};
use crate::world::{FileKind, ReadError, World};

/// Deepest nesting of INCLUDE.
const MAX_DEPTH: usize = 19;

/// Most files that one program may include; files that include each other many times over never end otherwise.
const MAX_INCLUDES: usize = 10_000;

/// A program with what came up on the way to it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The program.
    pub program: Program,
    /// Problems that do not stop anybody.
    pub warnings: Vec<Diagnostic>,
    /// What templates logged, in order.
    pub log: Vec<LogMessage>,
}

/// Why a name of the command line or of Raptor.toml means no module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// `$package` is not linked.
    #[error("package not found: ${0}")]
    UnknownPackage(String),
    /// There is no such file.
    #[error("could not open {0}: no such file")]
    NotFound(PathBuf),
}

/// Loads a module. On failure: all its problems, warnings included.
pub fn load(world: &dyn World, module: &ModuleId, sources: &mut Sources) -> Result<Loaded, Vec<Diagnostic>> {
    let text = match read(world, &module.path) {
        Ok(text) => text,
        Err(error) => {
            let file = sources.add(&module.path, "".into());
            return Err(vec![unreadable(&module.path, &error, Span::new(file, 0, 0))]);
        }
    };
    let program = Program {
        module: module.clone(),
        file: sources.add(&module.path, text.clone()),
        from: None,
        actions: Vec::new(),
        cmd: None,
        entrypoint: None,
        mounts: Vec::new(),
    };
    let mut loader = Loader {
        world,
        sources,
        program,
        problems: Vec::new(),
        log: Vec::new(),
        n_includes: 0,
        first_from: None,
        missing: BTreeSet::new(),
    };
    let mut context: Context =
        module.with.iter().map(|(name, value)| (name.clone(), value.to_value())).collect();
    context.extend(instance_context(module.instance.as_deref()));
    loader.file(&module.path, &text, context, &mut Vec::new());
    loader.problems.extend(lints::program(&loader.program, loader.sources));
    match loader.problems.iter().any(|it| it.severity() == Severity::Error) {
        true => Err(loader.problems),
        false => Ok(Loaded { program: loader.program, warnings: loader.problems, log: loader.log }),
    }
}

/// The module that a name means, seen from `current_dir`; it must exist.
pub fn resolve(
    world: &dyn World,
    name: &ModuleName,
    current_dir: &Path,
    extension: Extension,
) -> Result<ModuleId, ResolveError> {
    let path = name
        .file(current_dir, |package| world.link(package, current_dir), extension)
        .map_err(|unknown| ResolveError::UnknownPackage(unknown.0))?;
    let path = join(Path::new(""), &path);
    match world.kind(&path) {
        Some(FileKind::File) => {
            Ok(ModuleId { path, instance: name.instance.clone(), with: Parameters::new() })
        }
        _ => Err(ResolveError::NotFound(path)),
    }
}

/// Longest text of statements, as written and after its templates, in bytes. Nobody writes that much, and its tree
/// takes a hundred times as much memory.
const MAX_TEXT: usize = 8 << 20;

/// The text of a file with statements.
fn read(world: &dyn World, path: &Path) -> Result<Arc<str>, ReadError> {
    match world.read(path)? {
        text if text.len() > MAX_TEXT => Err(ReadError::Other(TOO_LONG.to_owned())),
        text => Ok(text),
    }
}

/// What [`MAX_TEXT`] means.
const TOO_LONG: &str = "more than 8 MiB of statements";

/// The problem of a text that rendering made too long.
fn too_long(file: FileId) -> Diagnostic {
    Diagnostic::new(Code::TemplateError, TOO_LONG, Span::new(file, 0, 0), "after its templates")
        .with_hint("is there a loop that writes too much?")
}

/// Statements of one file after its templates; no other file is opened.
pub fn parse_file_statements(path: &Path, text: &str) -> (Vec<Statement>, Vec<Diagnostic>, Sources) {
    let mut sources = Sources::default();
    let text: Arc<str> = text.into();
    if text.len() > MAX_TEXT {
        let file = sources.add(path, "".into());
        let problem = unreadable(path, &ReadError::Other(TOO_LONG.to_owned()), Span::new(file, 0, 0));
        return (Vec::new(), vec![problem], sources);
    }
    match template::render(&Reach::ThisFileOnly, path, &text, &Context::new(), &mut sources) {
        Ok(rendered) if rendered.text.len() > MAX_TEXT => {
            let file = sources.add(path, text.clone());
            (Vec::new(), vec![too_long(file)], sources)
        }
        Ok(rendered) => {
            let parse = syntax::parse(&rendered.text, syntax::Mode::Rendered);
            let (statements, problems) = syntax::statements(&parse, &|range| rendered.map.span(range));
            (statements, problems, sources)
        }
        Err(problems) => {
            let all = with_syntax_errors(problems, path, &text, &mut sources);
            (Vec::new(), all, sources)
        }
    }
}

struct Loader<'a> {
    world: &'a dyn World,
    sources: &'a mut Sources,
    program: Program,
    problems: Vec<Diagnostic>,
    log: Vec<LogMessage>,
    n_includes: usize,
    /// The FROM that counts, also if it names nothing.
    first_from: Option<Span>,
    /// Arguments of the file at hand that have no value because of an error that was told.
    missing: BTreeSet<String>,
}

impl Loader<'_> {
    /// Works through one file. `stack` holds the INCLUDE statements that led here, outermost first.
    fn file(&mut self, path: &Path, text: &Arc<str>, context: Context, stack: &mut Vec<Span>) {
        let rendered = match stack.is_empty() {
            true => template::render(&Reach::World(self.world), path, text, &context, self.sources),
            false => template::render_included(self.world, path, text, &context, self.sources),
        };
        let rendered = match rendered {
            Ok(rendered) => rendered,
            Err(problems) => {
                let problems = problems.into_iter().filter(|it| !self.follows_from_missing(it)).collect();
                let problems = with_syntax_errors(problems, path, text, self.sources);
                return problems.into_iter().for_each(|it| self.problem(it, stack));
            }
        };
        self.log.extend(rendered.log);
        if rendered.text.len() > MAX_TEXT {
            let file = self.sources.add(path, text.clone());
            return self.problem(too_long(file), stack);
        }
        let parse = syntax::parse(&rendered.text, syntax::Mode::Rendered);
        let (statements, problems) = syntax::statements(&parse, &|range| rendered.map.span(range));
        let mut scope = context;
        scope.extend(rendered.exports);
        // Problems are told in the order of the file, whichever stage found them.
        let mut problems = problems.into_iter().peekable();
        for statement in statements {
            let is_before = |it: &Diagnostic| it.labels.first().is_some_and(|it| it.span < statement.span);
            while let Some(problem) = problems.next_if(is_before) {
                self.problem(problem, stack);
            }
            self.statement(path, statement, &scope, stack);
        }
        problems.for_each(|it| self.problem(it, stack));
    }

    fn statement(&mut self, path: &Path, statement: Statement, scope: &Context, stack: &mut Vec<Span>) {
        let span = statement.span;
        let kind = match statement.inst {
            Inst::From(source) => return self.from(path, source, span, stack),
            Inst::Cmd(argv) => {
                let ours = self.first("CMD", self.program.cmd.as_ref().map(|it| it.span), span, stack);
                return if ours {
                    self.program.cmd = Some(Spanned { value: values(argv), span })
                };
            }
            Inst::Entrypoint(argv) => {
                let first = self.program.entrypoint.as_ref().map(|it| it.span);
                let ours = self.first("ENTRYPOINT", first, span, stack);
                return if ours {
                    self.program.entrypoint = Some(Spanned { value: values(argv), span })
                };
            }
            Inst::Mount(mount) => return self.mount(path, mount, span, stack),
            Inst::Include { module, args } => return self.include(path, &module, &args, span, scope, stack),
            Inst::Run(argv) => ActionKind::Run(values(argv)),
            Inst::Env(vars) => {
                ActionKind::Env(vars.into_iter().map(|(key, value)| (key.value, value.value)).collect())
            }
            Inst::Workdir(path) => ActionKind::Workdir(path.value),
            Inst::Write { value, path, opts } => {
                ActionKind::Write { text: value.value, path: path.value, opts }
            }
            Inst::Mkdir { path, parents, opts } => ActionKind::Mkdir { path: path.value, parents, opts },
            Inst::Copy { sources, dest, exclude, opts } => {
                let mut copied = copy::expand(self.world, dir_of(path), &sources, &exclude, dest.value);
                copied.problems.drain(..).for_each(|it| self.problem(it, stack));
                if copied.sources.is_empty() {
                    return;
                }
                let copy::Copied { sources, dest, exclude, .. } = copied;
                ActionKind::Copy { sources, dest, exclude, opts }
            }
            Inst::Fetch { url, dest, digest, opts } => {
                let digest = digest.map(|it| it.value);
                match fetch::source(self.world, dir_of(path), url, digest) {
                    Ok(fetch::Source { url, mirrors, digest }) => {
                        ActionKind::Fetch { url, mirrors, dest: dest.value, digest, opts }
                    }
                    Err(problem) => return self.problem(problem, stack),
                }
            }
            Inst::Keep(paths) => ActionKind::Keep(paths),
            Inst::Render { source, dest, opts, args } => {
                let Some(text) = self.render(path, &source, &args, span, scope, stack) else { return };
                ActionKind::Write { text, path: dest.value, opts }
            }
        };
        self.program.actions.push(Action { kind, span, stack: stack.clone() });
    }

    fn from(&mut self, path: &Path, source: Spanned<FromSource>, span: Span, stack: &[Span]) {
        if !self.first("FROM", self.first_from, span, stack) {
            return;
        }
        self.first_from = Some(span);
        let base = match source.value {
            FromSource::Docker(reference) => Base::Docker(reference),
            FromSource::Debian(reference) => Base::Debian(reference),
            FromSource::Image(image) => {
                let file = join(dir_of(path), Path::new(&image.path));
                Base::Image(ImageFile { path: file.to_string_lossy().into_owned(), ..image })
            }
            FromSource::Module(value) => {
                match self.module(path, &Spanned { value, span: source.span }, Extension::Rapt, span, stack) {
                    Some(module) => Base::Module(module),
                    None => return,
                }
            }
        };
        self.program.from = Some(Spanned { value: base, span });
    }

    fn mount(&mut self, path: &Path, mount: Mount, span: Span, stack: &[Span]) {
        if !self.first("MOUNT", None, span, stack) {
            return;
        }
        let each = match &mount.each {
            Some(name) => match self.module(path, name, Extension::Rapt, span, stack) {
                Some(module) => Some(module),
                None => return,
            },
            None => None,
        };
        self.program.mounts.push(Spanned { value: ProgramMount { mount, each }, span });
    }

    fn include(
        &mut self,
        path: &Path,
        name: &Spanned<ModuleName>,
        args: &[Arg],
        span: Span,
        scope: &Context,
        stack: &mut Vec<Span>,
    ) {
        if self.n_includes >= MAX_INCLUDES {
            return;
        }
        self.n_includes += 1;
        if stack.len() >= MAX_DEPTH || self.n_includes == MAX_INCLUDES {
            let message = match stack.len() >= MAX_DEPTH {
                true => format!("INCLUDE is nested more than {MAX_DEPTH} deep"),
                false => format!("more than {MAX_INCLUDES} INCLUDEs"),
            };
            let problem = Diagnostic::new(Code::IncludeTooDeep, message, span, "too many nested includes")
                .with_hint("a file that includes itself, also through others, never ends");
            // One such message is enough; files that include themselves twice would give a million.
            self.n_includes = MAX_INCLUDES;
            return self.problem(problem, stack);
        }
        let (mut context, missing) = self.args(args, scope, stack);
        let Some(module) = self.module(path, name, Extension::Rinc, span, stack) else { return };
        context.extend(instance_context(module.instance.as_deref()));
        match read(self.world, &module.path) {
            Ok(text) => {
                lints::unmentioned(args, &text).into_iter().for_each(|it| self.problem(it, stack));
                stack.push(span);
                let outer = mem::replace(&mut self.missing, missing);
                self.file(&module.path, &text, context, stack);
                self.missing = outer;
                stack.pop();
            }
            Err(error) => self.problem(unreadable(&module.path, &error, span), stack),
        }
    }

    fn render(
        &mut self,
        path: &Path,
        source: &Spanned<String>,
        args: &[Arg],
        span: Span,
        scope: &Context,
        stack: &[Span],
    ) -> Option<String> {
        let (context, missing) = self.args(args, scope, stack);
        let template = join(dir_of(path), Path::new(&source.value));
        let text = match self.world.read(&template) {
            Ok(text) => text,
            Err(error) => {
                let mut problem = unreadable(&template, &error, source.span);
                problem.hint = near::file(self.world, &template).map(|it| format!("did you mean `{it}`?"));
                self.problem(problem, stack);
                return None;
            }
        };
        for problem in
            lints::unmentioned(args, &text).into_iter().chain(lints::outside(path, &template, source.span))
        {
            self.problem(problem, stack);
        }
        match template::render_document(self.world, &template, &text, &context, self.sources) {
            Ok(rendered) => {
                self.log.extend(rendered.log);
                Some(rendered.text)
            }
            Err(problems) => {
                let mut stack = stack.to_vec();
                stack.push(span);
                let outer = mem::replace(&mut self.missing, missing);
                for problem in problems {
                    if !self.follows_from_missing(&problem) {
                        self.problem(problem, &stack);
                    }
                }
                self.missing = outer;
                None
            }
        }
    }

    /// The module that a statement names; a problem if there is none.
    fn module(
        &mut self,
        path: &Path,
        name: &Spanned<ModuleName>,
        extension: Extension,
        span: Span,
        stack: &[Span],
    ) -> Option<ModuleId> {
        let problem = match resolve(self.world, &name.value, dir_of(path), extension) {
            Ok(module) => return Some(module),
            Err(error @ ResolveError::UnknownPackage(_)) => {
                Diagnostic::new(Code::UnknownPackage, error.to_string(), span, "no such package")
                    .with_hint("link it with `[raptor.link]` in Raptor.toml, or with `-L NAME PATH`")
            }
            Err(ResolveError::NotFound(file)) => {
                let message = format!("could not open {}: no such file", file.display());
                let problem = Diagnostic::new(Code::FileNotFound, message, span, "named here");
                self.near_module(problem, &file, name, extension)
            }
        };
        self.problem(problem, stack);
        None
    }

    /// Adds what to write instead, if that can be guessed.
    fn near_module(
        &self,
        problem: Diagnostic,
        file: &Path,
        name: &Spanned<ModuleName>,
        extension: Extension,
    ) -> Diagnostic {
        if let Some(hint) = near::other_kind(self.world, file, &name.value, extension) {
            return problem.with_hint(hint);
        }
        let Some(near) = near::module(self.world, file, &name.value, extension) else { return problem };
        let written = self.sources.text(name.span.file);
        let written = written.get(name.span.start as usize..name.span.end as usize);
        let problem = problem.with_hint(format!("did you mean `{near}`?"));
        match written == Some(name.value.to_string().as_str()) {
            true => problem.with_fix(Fix::guess(name.span, near.to_string())),
            false => problem,
        }
    }

    /// Values of arguments, and the names of those that have none.
    fn args(&mut self, args: &[Arg], scope: &Context, stack: &[Span]) -> (Context, BTreeSet<String>) {
        let mut problems = Vec::new();
        let values = args::evaluate(args, scope, &self.missing, &mut problems);
        problems.into_iter().for_each(|it| self.problem(it, stack));
        values
    }

    /// Whether a problem is only that an argument is missing, which was told where it is passed.
    fn follows_from_missing(&self, problem: &Diagnostic) -> bool {
        let Some(label) = problem.labels.first() else { return false };
        let text = self.sources.text(label.span.file);
        let text = text.get(label.span.start as usize..label.span.end as usize).unwrap_or_default();
        let name = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
        problem.code == Code::UndefinedValue && name.is_some_and(|it| self.missing.contains(it))
    }

    /// Whether a statement of which only the first at top level counts is that one; else a warning.
    fn first(&mut self, instruction: &str, first: Option<Span>, span: Span, stack: &[Span]) -> bool {
        let why = match (stack.is_empty(), first) {
            (true, None) => return true,
            (true, Some(_)) => format!("only the first {instruction} of a file counts"),
            (false, _) => format!("{instruction} has no effect in an included file"),
        };
        let mut problem = Diagnostic::new(Code::Ineffective, why, span, "ignored");
        match first.filter(|_| stack.is_empty()) {
            Some(first) => problem = problem.with_label(first, "this one counts"),
            None => {
                problem = problem.with_hint(
                    "write it into the .rapt file that is built; INCLUDE brings only what changes the layer",
                );
            }
        }
        self.problem(problem, stack);
        false
    }

    fn problem(&mut self, mut problem: Diagnostic, stack: &[Span]) {
        problem.stack.splice(0..0, stack.iter().copied());
        self.problems.push(problem);
    }
}

/// Adds what is wrong with the lines of a file that hold no template, which did not come to be read.
fn with_syntax_errors(
    mut problems: Vec<Diagnostic>,
    path: &Path,
    text: &Arc<str>,
    sources: &mut Sources,
) -> Vec<Diagnostic> {
    let file = sources.add(path, text.clone());
    let parse = syntax::parse(text, syntax::Mode::Source);
    let (_, errors) = syntax::statements(&parse, &|range| Span::new(file, range.start, range.end));
    let uncertain = template::uncertain(text);
    let is_certain = |span: Span| {
        uncertain.iter().all(|it| (span.end as usize) < it.start || (span.start as usize) > it.end)
    };
    problems.extend(errors.into_iter().filter(|it| {
        it.severity() == Severity::Error && it.labels.first().is_some_and(|it| is_certain(it.span))
    }));
    // Those of included templates belong to the place of the include.
    let place = |it: &Diagnostic| it.stack.first().copied().or(it.labels.first().map(|it| it.span));
    problems.sort_by_key(place);
    problems
}

fn values(words: Vec<Spanned<String>>) -> Vec<String> {
    words.into_iter().map(|it| it.value).collect()
}

fn instance_context(instance: Option<&str>) -> Context {
    instance.map(|it| ("instance".to_owned(), Value::from(it))).into_iter().collect()
}

fn unreadable(path: &Path, error: &ReadError, span: Span) -> Diagnostic {
    let code = match error {
        ReadError::NotUtf8(_) => Code::NotUtf8,
        _ => Code::FileNotFound,
    };
    Diagnostic::new(code, format!("could not open {}: {error}", path.display()), span, "")
}

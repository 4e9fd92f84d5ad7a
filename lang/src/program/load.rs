//! Loading of a module: read, render, parse, expand INCLUDEs, render RENDERs, collect every problem.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::value::Value;

use super::{Action, ActionKind, Base, ModuleId, Program, ProgramMount, args};
use crate::def::{Extension, ModuleName};
use crate::diag::{Code, Diagnostic, Label, Severity};
use crate::paths::{dir_of, join};
use crate::source::{Sources, Span};
use crate::stmt::{Arg, FromSource, Inst, Mount, Spanned, Statement};
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
    let program = Program {
        module: module.clone(),
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
    };
    let text = match world.read(&module.path) {
        Ok(text) => text,
        Err(error) => {
            let file = loader.sources.add(&module.path, "".into());
            return Err(vec![unreadable(&module.path, &error, Span::new(file, 0, 0))]);
        }
    };
    let context = instance_context(module.instance.as_deref());
    loader.file(&module.path, &text, context, &mut Vec::new());
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
        .file(current_dir, |package| world.link(package), extension)
        .map_err(|unknown| ResolveError::UnknownPackage(unknown.0))?;
    let path = join(Path::new(""), &path);
    match world.kind(&path) {
        Some(FileKind::File) => Ok(ModuleId { path, instance: name.instance.clone() }),
        _ => Err(ResolveError::NotFound(path)),
    }
}

/// Statements of one file after its templates; no other file is opened.
pub fn parse_file_statements(path: &Path, text: &str) -> (Vec<Statement>, Vec<Diagnostic>, Sources) {
    let mut sources = Sources::default();
    let text: Arc<str> = text.into();
    match template::render(&Reach::ThisFileOnly, path, &text, &Context::new(), &mut sources) {
        Ok(rendered) => {
            let parse = syntax::parse(&rendered.text, syntax::Mode::Rendered);
            let (statements, problems) = syntax::statements(&parse, &|range| rendered.map.span(range));
            (statements, problems, sources)
        }
        Err(problem) => (Vec::new(), vec![problem], sources),
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
}

impl Loader<'_> {
    /// Works through one file. `stack` holds the INCLUDE statements that led here, outermost first.
    fn file(&mut self, path: &Path, text: &Arc<str>, context: Context, stack: &mut Vec<Span>) {
        let rendered = match template::render(&Reach::World(self.world), path, text, &context, self.sources) {
            Ok(rendered) => rendered,
            Err(problem) => return self.problem(problem, stack),
        };
        self.log.extend(rendered.log);
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
            Inst::Copy { sources, dest, opts } => {
                let sources =
                    sources.into_iter().filter_map(|it| self.copy_source(path, it, stack)).collect();
                ActionKind::Copy { sources, dest: dest.value, opts }
            }
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
            FromSource::Module(name) => match self.module(path, &name, Extension::Rapt, span, stack) {
                Some(module) => Base::Module(module),
                None => return,
            },
        };
        self.program.from = Some(Spanned { value: base, span });
    }

    fn mount(&mut self, path: &Path, mount: Mount, span: Span, stack: &[Span]) {
        if !self.first("MOUNT", None, span, stack) {
            return;
        }
        let each = match &mount.each {
            Some(name) => match self.module(path, &name.value, Extension::Rapt, span, stack) {
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
        let mut context = self.args(args, scope, stack);
        let Some(module) = self.module(path, &name.value, Extension::Rinc, span, stack) else { return };
        context.extend(instance_context(module.instance.as_deref()));
        match self.world.read(&module.path) {
            Ok(text) => {
                stack.push(span);
                self.file(&module.path, &text, context, stack);
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
        let context = self.args(args, scope, stack);
        let template = join(dir_of(path), Path::new(&source.value));
        let text = match self.world.read(&template) {
            Ok(text) => text,
            Err(error) => {
                self.problem(unreadable(&template, &error, source.span), stack);
                return None;
            }
        };
        match template::render_document(self.world, &template, &text, &context, self.sources) {
            Ok(rendered) => {
                self.log.extend(rendered.log);
                Some(rendered.text)
            }
            Err(problem) => {
                let mut stack = stack.to_vec();
                stack.push(span);
                self.problem(problem, &stack);
                None
            }
        }
    }

    fn copy_source(
        &mut self,
        path: &Path,
        source: Spanned<String>,
        stack: &[Span],
    ) -> Option<Spanned<PathBuf>> {
        let file = join(dir_of(path), Path::new(&source.value));
        if self.world.kind(&file).is_some() {
            return Some(Spanned { value: file, span: source.span });
        }
        let message = format!("could not open {}: no such file or directory", file.display());
        let problem = Diagnostic::new(Code::FileNotFound, message, source.span, "this source does not exist");
        self.problem(
            problem.with_hint("sources count from the directory of the file they are named in"),
            stack,
        );
        None
    }

    /// The module that a statement names; a problem if there is none.
    fn module(
        &mut self,
        path: &Path,
        name: &ModuleName,
        extension: Extension,
        span: Span,
        stack: &[Span],
    ) -> Option<ModuleId> {
        let problem = match resolve(self.world, name, dir_of(path), extension) {
            Ok(module) => return Some(module),
            Err(error @ ResolveError::UnknownPackage(_)) => {
                Diagnostic::new(Code::UnknownPackage, error.to_string(), span, "no such package")
                    .with_hint("link it with `[raptor.link]` in Raptor.toml, or with `-L NAME PATH`")
            }
            Err(ResolveError::NotFound(file)) => {
                let message = format!("could not open {}: no such file", file.display());
                let mut problem = Diagnostic::new(Code::FileNotFound, message, span, "named here");
                problem.hint = self.other_file(&file, name, extension);
                problem
            }
        };
        self.problem(problem, stack);
        None
    }

    /// What to write instead, if a file of the other kind exists under the name.
    fn other_file(&self, file: &Path, name: &ModuleName, extension: Extension) -> Option<String> {
        let exists = |it: &Path| self.world.kind(it) == Some(FileKind::File);
        let (other, advice) = match extension {
            Extension::Rapt => (Extension::Rinc, "is there, for INCLUDE; FROM needs a .rapt file"),
            Extension::Rinc => (Extension::Rapt, "is there, for FROM; INCLUDE needs a .rinc file"),
        };
        let sibling = file.with_extension(other.as_str());
        if exists(&sibling) {
            return Some(format!("{} {advice}", sibling.display()));
        }
        let stem = file.file_stem()?.to_str()?;
        let (stem, advice) = match stem.strip_suffix('@') {
            Some(stem) => {
                (stem.to_owned(), "is there, without instances; leave `@` and what follows out".to_owned())
            }
            None => (format!("{stem}@"), format!("is there, and needs an instance: `{name}@NAME`")),
        };
        let sibling = file.with_file_name(format!("{stem}.{}", extension.as_str()));
        exists(&sibling).then(|| format!("{} {advice}", sibling.display()))
    }

    fn args(&mut self, args: &[Arg], scope: &Context, stack: &[Span]) -> Context {
        let mut problems = Vec::new();
        let context = args::evaluate(args, scope, &mut problems);
        problems.into_iter().for_each(|it| self.problem(it, stack));
        context
    }

    /// Whether a statement of which only the first at top level counts is that one; else a warning.
    fn first(&mut self, instruction: &str, first: Option<Span>, span: Span, stack: &[Span]) -> bool {
        let why = match (stack.is_empty(), first) {
            (true, None) => return true,
            (true, Some(_)) => format!("only the first {instruction} of a file counts"),
            (false, _) => format!("{instruction} has no effect in an included file"),
        };
        let mut problem = Diagnostic::new(Code::Ineffective, why, span, "ignored");
        if stack.is_empty() {
            problem.labels.extend(first.map(|span| Label { span, text: "this one counts".to_owned() }));
        }
        self.problem(problem, stack);
        false
    }

    fn problem(&mut self, mut problem: Diagnostic, stack: &[Span]) {
        problem.stack.splice(0..0, stack.iter().copied());
        self.problems.push(problem);
    }
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

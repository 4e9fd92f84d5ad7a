//! Runs a case: its text or project through the language, and what comes out as results and problems.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raptor_lang::def::{Extension, ModuleName};
use raptor_lang::diag::{Diagnostic, Severity};
use raptor_lang::manifest::{self, FetchSource, GitRef, LinkSource, Manifest};
use raptor_lang::program::{self, ActionKind, Base, ModuleId, Parameter, Program};
use raptor_lang::source::{FileId, Sources, Span};
use raptor_lang::stmt::{FileOpts, Spanned};
use raptor_lang::syntax::{self, Mode, SyntaxNode};
use raptor_lang::world::{FileKind, ReadError, World};
use serde_json::{Map, Value, json};

use crate::cases::{Case, CaseFile, CaseFileKind, Problem, Target};
use crate::command;

/// What became of a case.
#[derive(Default)]
pub struct Outcome {
    pub results: Vec<(String, Value)>,
    pub problems: Vec<Problem>,
}

/// Runs a case.
pub fn run(case: &Case) -> Outcome {
    for file in &case.files {
        check_tree(&file.text, &case.place);
    }
    match &case.target {
        Some(Target::Command(args)) => command::run(case, args),
        Some(Target::Load(name, with)) => run_project(case, name, with),
        None if case.is_project() => run_project(case, "main", &Map::new()),
        None => run_text(&case.files[0].text),
    }
}

/// Checks what holds for every text: the tree keeps it, and a line without an error is a statement.
fn check_tree(text: &str, place: &str) {
    for mode in [Mode::Source, Mode::Rendered] {
        let parse = syntax::parse(text, mode);
        assert_eq!(parse.syntax().text().to_string(), text, "{place}: the tree of {mode:?} is not lossless");
        for error in &parse.errors {
            assert!(text.get(error.range.clone()).is_some(), "{place}: outside of the text: {error:?}");
        }
        assert!(parse.errors.is_sorted_by_key(|error| error.range.start), "{place}");
        if mode == Mode::Rendered {
            let is_right = |node: &SyntaxNode| {
                let range = node.text_range();
                let (start, end) = (usize::from(range.start()), usize::from(range.end()));
                let mut errors = parse.errors.iter().filter(|it| it.code.severity() == Severity::Error);
                node.kind().is_statement()
                    && !errors.any(|it| start <= it.range.start && it.range.start < end)
            };
            let n_right = parse.syntax().children().filter(is_right).count();
            assert_eq!(syntax::statements(&parse, &text_span).0.len(), n_right, "{place}");
        }
    }
}

fn text_span(range: Range<usize>) -> Span {
    Span::new(FileId(0), range.start, range.end)
}

fn run_text(text: &str) -> Outcome {
    let parse = syntax::parse(text, Mode::Rendered);
    let (statements, diagnostics) = syntax::statements(&parse, &text_span);
    let mut sources = Sources::default();
    sources.add(Path::new(""), text.into());
    let results = syntax::statements_json(&statements)["statements"].as_array().unwrap().clone();
    Outcome {
        results: results.into_iter().map(|it| (it["inst"].as_str().unwrap().to_owned(), it)).collect(),
        problems: diagnostics.iter().map(|it| problem(it, &sources)).collect(),
    }
}

fn run_project(case: &Case, name: &str, with: &Map<String, Value>) -> Outcome {
    let mut sources = Sources::default();
    let mut outcome = Outcome::default();
    let links = case.links.iter().cloned().collect();
    let mut world = MemoryWorld { files: &case.files, links, fetch: BTreeMap::new() };
    if let Some(file) = case.files.iter().find(|it| it.path == Path::new("Raptor.toml")) {
        let (manifest, problems) = manifest::parse(&file.path, &file.text, &mut sources);
        outcome.problems.extend(problems.iter().map(|it| problem(it, &sources)));
        world.links.extend(
            manifest.links.iter().filter_map(|(name, it)| Some((name.clone(), it.value.dir()?.into()))),
        );
        world.fetch = manifest.fetch.iter().map(|(name, it)| (name.clone(), it.value.clone())).collect();
        if case.target.is_none() && !case.files.iter().any(|it| it.path == Path::new("main.rapt")) {
            outcome.results = manifest_results(&manifest);
            return outcome;
        }
    }
    let module = match find(&world, name) {
        Ok(module) => ModuleId { with: parameters(with), ..module },
        Err(message) => {
            outcome.results.push(("ERROR".to_owned(), json!({ "message": message })));
            return outcome;
        }
    };
    let problems = match program::load(&world, &module, &mut sources) {
        Ok(loaded) => {
            outcome.results = program_results(&loaded.program);
            outcome.results.extend(loaded.log.iter().map(|it| {
                ("LOG".to_owned(), json!({ "level": it.level.name(), "text": it.text, "file": it.file }))
            }));
            loaded.warnings
        }
        Err(problems) => problems,
    };
    outcome.problems.extend(problems.iter().map(|it| problem(it, &sources)));
    outcome
}

/// The module that a name of the command line means.
fn find(world: &dyn World, name: &str) -> Result<ModuleId, String> {
    let name: ModuleName = name.parse().map_err(|error: raptor_lang::def::NameError| error.to_string())?;
    program::resolve(world, &name, Path::new(""), Extension::Rapt).map_err(|error| error.to_string())
}

fn parameters(with: &Map<String, Value>) -> program::Parameters {
    with.iter().map(|(name, value)| (name.clone(), parameter(value))).collect()
}

fn parameter(value: &Value) -> Parameter {
    match value {
        Value::Bool(it) => Parameter::Bool(*it),
        Value::Number(it) => Parameter::Int(it.as_i64().unwrap()),
        Value::String(it) => Parameter::Str(it.clone()),
        Value::Array(it) => Parameter::List(it.iter().map(parameter).collect()),
        Value::Object(it) => Parameter::Map(parameters(it)),
        Value::Null => panic!("no parameter is null"),
    }
}

fn problem(diagnostic: &Diagnostic, sources: &Sources) -> Problem {
    let Span { file, start, end } = diagnostic.labels[0].span;
    let range = &sources.text(file)[start as usize..end as usize];
    let line = |span: &Span| {
        let text = &sources.text(span.file)[..span.start as usize];
        format!("{}:{}", sources.path(span.file).display(), text.matches('\n').count() + 1)
    };
    Problem {
        file: sources.path(file).to_path_buf(),
        start: start as usize,
        len: range.lines().next().unwrap_or("").chars().count().max(1),
        code: diagnostic.code.id().to_owned(),
        message: diagnostic.message.clone(),
        stack: diagnostic.stack.iter().rev().map(line).collect(),
    }
}

fn program_results(program: &Program) -> Vec<(String, Value)> {
    let mut results = Vec::new();
    let mut push = |name: &str, value: Value| results.push((name.to_owned(), value));
    match program.from.as_ref().map(|it| &it.value) {
        None => {}
        Some(Base::Docker(reference)) => push("FROM", json!({ "docker": reference })),
        Some(Base::Debian(reference)) => push("FROM", json!({ "debian": reference })),
        Some(Base::Image(image)) => push("FROM", json!({ "image": image.to_string() })),
        Some(Base::Module(module)) => push("FROM", module_json(module)),
    }
    for action in &program.actions {
        let (name, value) = action_json(&action.kind);
        push(name, value);
    }
    for (name, argv) in [("CMD", &program.cmd), ("ENTRYPOINT", &program.entrypoint)] {
        if let Some(Spanned { value, .. }) = argv {
            push(name, json!({ "argv": value }));
        }
    }
    for mount in &program.mounts {
        let it = &mount.value.mount;
        let each = mount.value.each.as_ref().map(|it| it.path.display().to_string());
        push(
            "MOUNT",
            json!({
                "kind": it.kind, "name": it.name.value, "path": it.path.value, "readonly": it.readonly,
                "optional": it.optional, "each": each,
            }),
        );
    }
    results
}

fn module_json(module: &ModuleId) -> Value {
    json!({ "module": module.path, "instance": module.instance })
}

fn action_json(action: &ActionKind) -> (&'static str, Value) {
    match action {
        ActionKind::Run(argv) => ("RUN", json!({ "argv": argv })),
        ActionKind::Env(vars) => ("ENV", json!({ "vars": vars })),
        ActionKind::Workdir(path) => ("WORKDIR", json!({ "path": path })),
        ActionKind::Write { text, path, opts } => {
            ("WRITE", with_opts(json!({ "value": text, "path": path }), opts))
        }
        ActionKind::Mkdir { path, parents, opts } => {
            ("MKDIR", with_opts(json!({ "path": path, "parents": parents }), opts))
        }
        ActionKind::Copy { sources, dest, exclude, opts } => {
            let sources: Vec<_> = sources.iter().map(|it| &it.value).collect();
            let mut value = json!({ "sources": sources, "dest": dest });
            if !exclude.is_empty() {
                value["exclude"] = exclude.texts().collect();
            }
            ("COPY", with_opts(value, opts))
        }
        ActionKind::Keep(paths) => {
            ("KEEP", json!({ "paths": paths.iter().map(|it| &it.value).collect::<Vec<_>>() }))
        }
        ActionKind::Fetch { url, mirrors, dest, digest, opts } => {
            let mut value = json!({ "url": url.value, "dest": dest, "digest": digest });
            if !mirrors.is_empty() {
                value["mirrors"] = json!(mirrors);
            }
            ("FETCH", with_opts(value, opts))
        }
    }
}

fn with_opts(mut value: Value, opts: &FileOpts) -> Value {
    value["chmod"] = opts.chmod.map(|mode| format!("{mode:04o}")).into();
    value["chown"] = json!(opts.chown);
    value
}

fn manifest_results(manifest: &Manifest) -> Vec<(String, Value)> {
    let list = |words: &[Spanned<String>]| words.iter().map(|it| it.value.clone()).collect::<Vec<_>>();
    let links = manifest.links.iter().map(|(name, source)| ("LINK", link_json(name, &source.value)));
    let fetch = manifest.fetch.iter().map(|(name, file)| {
        ("FETCH", json!({ "name": name, "urls": file.value.urls, "digest": file.value.digest }))
    });
    let mirror = manifest.mirror.iter().map(|it| ("MIRROR", json!({ "url": it.value })));
    let runs = manifest.runs.iter().map(|(name, job)| {
        let value = json!({
            "name": name, "target": job.target.value, "cache": list(&job.cache), "input": list(&job.input),
            "output": list(&job.output), "entrypoint": job.entrypoint, "args": job.args, "env": job.env,
            "state-dir": job.state_dir.as_ref().map(|it| &it.value), "with": parameters_json(&job.with),
        });
        ("JOB", value)
    });
    let groups = manifest.groups.iter().map(|(name, group)| {
        ("GROUP", json!({ "name": name, "run": list(&group.run), "build": list(&group.build) }))
    });
    let all = links.chain(fetch).chain(mirror).chain(runs).chain(groups);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn link_json(name: &str, source: &LinkSource) -> Value {
    match source {
        LinkSource::Dir(path) => json!({ "name": name, "path": path }),
        LinkSource::Git(git) => {
            let (key, at) = match &git.at {
                GitRef::Rev(at) => ("rev", at),
                GitRef::Tag(at) => ("tag", at),
                GitRef::Branch(at) => ("branch", at),
            };
            json!({ "name": name, "git": git.url, key: at, "path": git.path })
        }
        LinkSource::Archive(it) => {
            json!({ "name": name, "url": it.url, "sha256": it.sha256, "path": it.path, "strip": it.strip })
        }
    }
}

fn parameters_json(with: &program::Parameters) -> Value {
    with.iter().map(|(name, value)| (name.clone(), parameter_json(value))).collect()
}

fn parameter_json(value: &Parameter) -> Value {
    match value {
        Parameter::Bool(it) => json!(it),
        Parameter::Int(it) => json!(it),
        Parameter::Str(it) => json!(it),
        Parameter::List(it) => it.iter().map(parameter_json).collect(),
        Parameter::Map(it) => parameters_json(it),
    }
}

/// The files of a case. Directories exist when something is below them.
struct MemoryWorld<'a> {
    files: &'a [CaseFile],
    links: BTreeMap<String, PathBuf>,
    fetch: BTreeMap<String, FetchSource>,
}

impl World for MemoryWorld<'_> {
    fn read(&self, path: &Path) -> Result<Arc<str>, ReadError> {
        match self.files.iter().find(|it| it.path == path) {
            None => Err(ReadError::NotFound),
            Some(file) => match file.kind {
                CaseFileKind::Text => Ok(file.text.as_str().into()),
                CaseFileKind::Binary => Err(ReadError::NotUtf8(0)),
                CaseFileKind::Dir => Err(ReadError::Other("is a directory".to_owned())),
            },
        }
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        match self.files.iter().find(|it| it.path.starts_with(path))? {
            file if file.path != path || file.kind == CaseFileKind::Dir => Some(FileKind::Dir),
            _ => Some(FileKind::File),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, ReadError> {
        let below = self.files.iter().filter_map(|it| it.path.strip_prefix(path).ok());
        let names: BTreeSet<_> = below.filter_map(|it| it.components().next()).collect();
        Ok(names.into_iter().map(|it| it.as_os_str().to_owned()).collect())
    }

    fn link(&self, name: &str, _from: &Path) -> Option<PathBuf> {
        self.links.get(name).cloned()
    }

    fn fetch(&self, name: &str, _from: &Path) -> Option<FetchSource> {
        self.fetch.get(name).cloned()
    }
}

//! The project of a command: base directory, Raptor.toml, lock, and evaluations over them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use raptor_lang::def::{Extension, ModuleName, NameError};
use raptor_lang::diag::{Code, Diagnostic, Fix, Severity, in_order};
use raptor_lang::manifest::{self, Manifest};
use raptor_lang::program::{self, ModuleId, Parameters, ResolveError, near};
use raptor_lang::source::Sources;
use raptor_lang::stmt::Spanned;
use raptor_lang::world::{FileKind, World};

use super::args::MessageFormat;
use super::diagnostics::count;
use super::errors::CliError;
use super::links;
use super::pin;
use super::session::{MirrorSettings, Session};
use crate::derivation::DrvId;
use crate::eval::{Evaluator, Failed, Job, JobInput, Planned};
use crate::lock::{Lock, LockError, NetworkEntry};
use crate::world::{Files, Packages};

/// Name of the project file.
pub const MANIFEST: &str = "Raptor.toml";
/// Name of the lock.
const LOCK: &str = "Raptor.lock";

/// A base directory with its settings.
pub struct Project {
    pub files: Files,
    pub manifest: Manifest,
    /// Raptor.toml, if there is one.
    pub sources: Sources,
    /// What is wrong with it.
    pub problems: Vec<Diagnostic>,
    /// Names of the packages that come from the network, as the lock has them.
    pub fetched_packages: BTreeSet<String>,
    lock_file: PathBuf,
    lock: Mutex<Lock>,
    digest: blake3::Hash,
    /// This command wrote to the lock.
    lock_changed: AtomicBool,
}

/// A finished evaluation.
pub struct Evaluated<'a> {
    pub evaluator: Evaluator<'a>,
}

/// Why a name means no module.
struct WrongName {
    code: Code,
    message: String,
    hint: Option<String>,
    /// What was meant, most likely.
    near: Option<String>,
}

/// Something that a command line names.
enum Target {
    Module(ModuleId),
    Job(String),
}

impl Project {
    /// The project of the working directory, for commands that take modules. Its Raptor.toml has no errors.
    pub fn open(session: &Session, targets: &[String]) -> Result<Project, CliError> {
        Project::find(session, targets)?.sound(session)
    }

    /// The project of a Raptor.toml without errors.
    pub fn load(session: &Session, file: &Path) -> Result<Project, CliError> {
        Project::read(session, file)?.sound(session)
    }

    /// The project of the working directory, whatever is wrong with its Raptor.toml.
    pub fn find(session: &Session, targets: &[String]) -> Result<Project, CliError> {
        let base = std::env::current_dir()?;
        if base.join(MANIFEST).is_file() {
            return Project::read(session, Path::new(MANIFEST));
        }
        // Without a project file, the lock stands beside the target.
        let first = targets.first().and_then(|it| it.parse::<ModuleName>().ok());
        let dir = first.and_then(|name| {
            let file = name.file(Path::new(""), |_| None, Extension::Rapt).ok()?;
            file.parent().map(Path::to_path_buf)
        });
        let lock_file = base.join(dir.unwrap_or_default()).join(LOCK);
        let mut project = Project::with(base, Manifest::default(), "", lock_file)?;
        links::resolve(session, &mut project)?;
        Ok(project)
    }

    /// No project of anybody: modules of the standard library that raptor itself uses. Its lock is the store's.
    pub fn of_tools(session: &Session) -> Result<Project, CliError> {
        let lock_file = session.store()?.state_file("tools", LOCK);
        let base = lock_file.parent().unwrap_or(Path::new("/")).to_path_buf();
        fs_err::create_dir_all(&base)?;
        // The Debian mirror that people want is that of where they are.
        let here = Project::find(session, &[]).ok();
        let manifest = Manifest { mirror: here.and_then(|it| it.manifest.mirror), ..Manifest::default() };
        Project::with(base, manifest, "", lock_file)
    }

    fn read(session: &Session, file: &Path) -> Result<Project, CliError> {
        let bytes = fs_err::read(file)?;
        let text = String::from_utf8(bytes).map_err(|err| {
            let at = err.utf8_error().valid_up_to();
            CliError::Other(format!("{}: not UTF-8 (first bad byte at offset {at})", file.display()))
        })?;
        let mut sources = Sources::default();
        let (manifest, problems) = manifest::parse(file, &text, &mut sources);
        let file = std::path::absolute(file)?;
        let base = file.parent().unwrap_or(Path::new("/")).to_path_buf();
        let lock_file = base.join(LOCK);
        session.look_for(&manifest)?;
        session.allow_insecure(manifest.insecure_registries.iter().map(|it| it.value.clone()).collect());
        let project = Project::with(base, manifest, &text, lock_file)?;
        let mut project = Project { sources, problems, ..project };
        links::resolve(session, &mut project)?;
        Ok(project)
    }

    /// The same project, or its errors, which are told here as the warnings are.
    fn sound(self, session: &Session) -> Result<Project, CliError> {
        report(session, &in_order(self.problems.clone()), &self.sources);
        if links::failed(&self.problems) {
            return Err(CliError::Diagnosed("a package is missing".to_owned()));
        }
        match self.problems.iter().any(|it| it.severity() == Severity::Error) {
            true => {
                let file = self.sources.paths().next().unwrap_or(Path::new(MANIFEST));
                Err(CliError::Diagnosed(format!("{} has errors", file.display())))
            }
            false => Ok(self),
        }
    }

    /// Without packages as yet.
    fn with(
        base: PathBuf,
        manifest: Manifest,
        manifest_text: &str,
        lock_file: PathBuf,
    ) -> Result<Project, CliError> {
        // An empty file is no lock, and an error; a missing one is an empty lock.
        let lock_text = Lock::read(&lock_file)?;
        let lock = lock_text.as_deref().map_or(Ok(Lock::default()), |text| Lock::parse(&lock_file, text))?;
        let mut digest = blake3::Hasher::new();
        for text in [manifest_text, lock_text.as_deref().unwrap_or_default()] {
            digest.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        Ok(Project {
            files: Files::new(base, Packages::default()),
            manifest,
            sources: Sources::default(),
            problems: Vec::new(),
            lock: Mutex::new(lock),
            lock_file,
            digest: digest.finalize(),
            lock_changed: AtomicBool::new(false),
            fetched_packages: BTreeSet::new(),
        })
    }

    /// The same project with another lock in another file, which may be thrown away.
    pub fn apart(&self, session: &Session, lock: &Lock, file: PathBuf) -> Result<Project, CliError> {
        lock.save(&file)?;
        let project = Project::with(self.files.base().to_path_buf(), self.manifest.clone(), "", file)?;
        let mut project = Project { sources: self.sources.clone(), ..project };
        links::resolve(session, &mut project)?;
        project.sound(session)
    }

    /// Hash of Raptor.toml and Raptor.lock as they were read.
    pub fn digest(&self) -> blake3::Hash {
        self.digest
    }

    /// Whether this command changed the lock, so that [`digest`](Project::digest) is not that of its result.
    pub fn lock_changed(&self) -> bool {
        self.lock_changed.load(Ordering::Relaxed)
    }

    /// What Raptor.toml says of Debian's mirrors.
    pub fn mirror_settings(&self) -> MirrorSettings {
        let Manifest { mirror, security_mirror, .. } = &self.manifest;
        let value = |it: &Option<Spanned<String>>| it.as_ref().map(|it| it.value.clone());
        MirrorSettings { main: value(mirror), security: value(security_mirror) }
    }

    /// Path of Raptor.lock, which need not exist.
    pub fn lock_file(&self) -> &Path {
        &self.lock_file
    }

    /// Keeps what a layer saw of the network.
    pub fn record(&self, layer: &str, entries: &[NetworkEntry]) -> Result<(), LockError> {
        self.change_lock(|lock| {
            match entries.is_empty() {
                true => lock.layers.remove(layer),
                false => lock.layers.insert(layer.to_owned(), entries.to_vec()),
            };
        })
    }

    /// What the lock on disk has for a layer now: other processes write to it, too.
    pub fn recorded(&self, layer: &str) -> Result<Option<Vec<NetworkEntry>>, LockError> {
        Ok(Lock::load(&self.lock_file)?.layers.remove(layer))
    }

    /// Whether another process has pinned the file of this URL meanwhile.
    pub fn is_fetch_pinned(&self, url: &str) -> Result<bool, LockError> {
        let on_disk = Lock::load(&self.lock_file)?;
        let pinned = on_disk.fetch.contains_key(url);
        if pinned {
            self.lock_changed.store(true, Ordering::Relaxed);
            *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = on_disk;
        }
        Ok(pinned)
    }

    /// Takes the lock as other processes left it.
    pub fn reload_lock(&self) -> Result<(), LockError> {
        let on_disk = Lock::load(&self.lock_file)?;
        let mut ours = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if *ours != on_disk {
            self.lock_changed.store(true, Ordering::Relaxed);
            *ours = on_disk;
        }
        Ok(())
    }

    /// Changes the lock on disk as it is now: other processes write to it, too.
    pub fn change_lock(&self, change: impl FnOnce(&mut Lock)) -> Result<(), LockError> {
        let mut ours = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // The directory is locked, for saving replaces the file. Where that is not possible, saving fails as well.
        let dir = self.lock_file.parent().and_then(|dir| std::fs::File::open(dir).ok());
        let alone = dir.as_ref().map(|dir| rustix::fs::flock(dir, rustix::fs::FlockOperation::LockExclusive));
        if let Some(Ok(())) = alone {
            Lock::clear_unfinished(&self.lock_file);
        }
        let mut lock = Lock::load(&self.lock_file)?;
        change(&mut lock);
        self.lock_changed.store(true, Ordering::Relaxed);
        lock.save(&self.lock_file)?;
        *ours = lock;
        Ok(())
    }

    /// The lock as it is now.
    pub fn lock(&self) -> Lock {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The module that a name of the command line or of Raptor.toml means.
    pub fn module(&self, name: &str) -> Result<ModuleId, CliError> {
        self.resolve(name).map_err(|wrong| {
            let hint = wrong.near.map(|it| format!("did you mean `{it}`?")).or(wrong.hint);
            CliError::Named { message: format!("{name}: {}", wrong.message), hint }
        })
    }

    /// The same for a name that stands in Raptor.toml.
    pub fn module_at(&self, name: &Spanned<String>) -> Result<ModuleId, Diagnostic> {
        self.resolve(&name.value).map_err(|wrong| {
            let problem = Diagnostic::new(wrong.code, wrong.message, name.span, "named here");
            match (wrong.near, wrong.hint) {
                (Some(near), _) => problem
                    .with_hint(format!("did you mean `{near}`?"))
                    .with_fix(Fix::guess(name.span, format!("\"{near}\""))),
                (None, Some(hint)) => problem.with_hint(hint),
                (None, None) => problem,
            }
        })
    }

    fn resolve(&self, name: &str) -> Result<ModuleId, WrongName> {
        let parsed: ModuleName = self.without_file_name(name).parse().map_err(|err: NameError| {
            WrongName { code: Code::BadModuleName, message: err.to_string(), hint: err.hint(), near: None }
        })?;
        let resolved = program::resolve(&self.files, &parsed, Path::new(""), Extension::Rapt);
        resolved.map_err(|err| match &err {
            ResolveError::UnknownPackage(_) => WrongName {
                code: Code::UnknownPackage,
                message: err.to_string(),
                hint: Some("link it with `[raptor.link]` in Raptor.toml, or with `-L NAME PATH`".to_owned()),
                near: None,
            },
            ResolveError::NotFound(file) => WrongName {
                code: Code::FileNotFound,
                message: err.to_string(),
                hint: near::other_kind(&self.files, file, &parsed, Extension::Rapt),
                near: near::module(&self.files, file, &parsed, Extension::Rapt).map(|it| it.to_string()),
            },
        })
    }

    /// The modules that a command names as its targets.
    pub fn modules(&self, names: &[String], with: &Parameters) -> Result<Vec<ModuleId>, CliError> {
        names.iter().map(|name| Ok(ModuleId { with: with.clone(), ..self.module(name)? })).collect()
    }

    /// `./dir/a.rapt`, as shells complete it, is the module `dir.a`.
    fn without_file_name(&self, name: &str) -> String {
        let path = Path::new(name.strip_prefix("./").unwrap_or(name));
        let is_file = path.extension().is_some_and(|it| it == "rapt") && path.is_relative();
        match is_file && self.files.kind(path) == Some(FileKind::File) {
            true => path.with_extension("").display().to_string().replace('/', "."),
            false => name.to_owned(),
        }
    }

    /// A module, or failing that a job.
    fn target(&self, name: &str, with: &Parameters) -> Result<Target, CliError> {
        match self.module(name) {
            Ok(module) => Ok(Target::Module(ModuleId { with: with.clone(), ..module })),
            Err(_) if self.manifest.runs.contains_key(name) => Ok(Target::Job(name.to_owned())),
            Err(err) => Err(err),
        }
    }

    /// A job of Raptor.toml, ready to plan.
    pub fn job(&self, name: &str) -> Result<Job, CliError> {
        let job = self.manifest.runs.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.manifest.runs.keys().map(String::as_str).collect();
            CliError::Named {
                message: format!("there is no job `{name}`"),
                hint: Some(match known.is_empty() {
                    true => format!("{MANIFEST} has no jobs; one begins with `[run.{name}]`"),
                    false => format!("{MANIFEST} has: {}", known.join(", ")),
                }),
            }
        })?;
        let mut sources = BTreeMap::new();
        for (mount, values) in [("cache", &job.cache), ("input", &job.input), ("output", &job.output)] {
            let inputs = values.iter().map(|it| self.job_input(&it.value)).collect();
            sources.insert(mount.to_owned(), inputs);
        }
        Ok(Job {
            name: name.to_owned(),
            target: ModuleId { with: job.with.clone(), ..self.module(&job.target.value)? },
            sources,
            entrypoint: (!job.entrypoint.is_empty()).then(|| job.entrypoint.clone()),
            args: (!job.args.is_empty()).then(|| job.args.clone()),
            env: job.env.clone(),
            stateful: job.state_dir.is_some(),
        })
    }

    /// The source of a mount, as a module if there is one of that name and as a path.
    pub fn job_input(&self, text: &str) -> JobInput {
        let module = self.module(text).ok().filter(|it| self.files.kind(&it.path) == Some(FileKind::File));
        // `$link/path` is a path in a package.
        let path = match text.strip_prefix('$').and_then(|rest| rest.split_once('/')) {
            Some((package, rest)) => self.files.link(package, Path::new("")).map(|dir| dir.join(rest)),
            None => None,
        };
        JobInput { text: text.to_owned(), module, path: path.unwrap_or_else(|| PathBuf::from(text)) }
    }

    /// Where an output goes: relative to the working directory, or into a linked package.
    pub fn output(&self, path: &Path) -> PathBuf {
        self.files.on_disk(path).filter(|_| self.is_linked(path)).unwrap_or_else(|| path.to_path_buf())
    }

    /// An error for places that must not be written to: nothing changes a package in the store.
    pub fn check_writable(&self, path: &Path) -> Result<(), CliError> {
        match self.files.packages().is_stored(path) {
            true => Err(CliError::Named {
                message: format!(
                    "{} is in a package of the network, which nothing may change",
                    path.display()
                ),
                hint: Some("write to a place of the project".to_owned()),
            }),
            false => Ok(()),
        }
    }

    /// State directory of a job.
    pub fn state_dir(&self, job: &str) -> Option<PathBuf> {
        self.manifest.runs.get(job)?.state_dir.as_ref().map(|it| PathBuf::from(&it.value))
    }

    fn is_linked(&self, path: &Path) -> bool {
        let mut dirs = self.manifest.links.values().filter_map(|link| link.value.dir());
        dirs.any(|dir| path.starts_with(dir)) || self.files.packages().names(path)
    }

    /// Evaluates; pins what the lock lacks, unless that is forbidden, and evaluates again.
    pub fn evaluate<T>(
        &self,
        session: &Session,
        ask: impl Fn(&mut Evaluator<'_>) -> Result<T, Failed>,
    ) -> Result<(Evaluated<'_>, T), CliError> {
        loop {
            let mut evaluator =
                Evaluator::new(&self.files, self.lock()).with_manifest(&self.manifest, &self.sources);
            let result = ask(&mut evaluator);
            if !evaluator.has_errors() && !evaluator.unpinned.is_empty() {
                for (wanted, place) in &evaluator.unpinned {
                    pin::pin(session, self, wanted, place, &evaluator.sources)?;
                }
                continue;
            }
            for message in &evaluator.log {
                log_message(session, message);
            }
            let problems = in_order(evaluator.diagnostics.clone());
            report(session, &problems, &evaluator.sources);
            return match result {
                Ok(value) if !evaluator.has_errors() => Ok((Evaluated { evaluator }, value)),
                _ => Err(CliError::Diagnosed(format!("evaluation stopped at {}", count(&problems)))),
            };
        }
    }

    /// Derivations of targets: the top layer of a module, the run of a job. Parameters go before those that
    /// Raptor.toml has for a job.
    pub fn derivations(
        &self,
        session: &Session,
        names: &[String],
        with: &Parameters,
    ) -> Result<(Evaluated<'_>, Vec<DrvId>), CliError> {
        let targets = names.iter().map(|name| self.target(name, with)).collect::<Result<Vec<_>, _>>()?;
        let jobs = targets.iter().map(|target| match target {
            Target::Job(name) => self.job(name).map(|mut job| {
                job.target.with.extend(with.clone());
                Some(job)
            }),
            Target::Module(_) => Ok(None),
        });
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        let modules = targets.iter().zip(&jobs).flat_map(|(target, job)| match (target, job) {
            (_, Some(job)) => job.modules(),
            (Target::Module(module), None) => vec![module.clone()],
            (Target::Job(_), None) => Vec::new(),
        });
        let modules: Vec<ModuleId> = modules.collect();
        let (evaluated, planned) = self.evaluate(session, |evaluator| {
            evaluator.prepare(&modules);
            // Every target is asked, so that all errors come at once.
            let results: Vec<_> = targets
                .iter()
                .zip(&jobs)
                .map(|(target, job)| match (target, job) {
                    (_, Some(job)) => evaluator.job(job).map(|planned| match planned {
                        Planned::Pure { run, .. } => Ok(run),
                        Planned::Impure { reason, .. } => {
                            Err(format!("job `{}` has no derivation: {reason}", job.name))
                        }
                    }),
                    (Target::Module(module), None) => evaluator.layer(module).map(|it| Ok(it.id)),
                    (Target::Job(_), None) => Err(Failed),
                })
                .collect();
            results.into_iter().collect::<Result<Vec<_>, _>>()
        })?;
        let ids = planned.into_iter().collect::<Result<Vec<_>, _>>().map_err(CliError::Other)?;
        Ok((evaluated, ids))
    }
}

/// Most problems that are printed for people: who has a million sees nothing any more.
const MAX_SHOWN: usize = 200;

/// Prints diagnostics as they are; [`in_order`] brings them into order.
pub fn report(session: &Session, problems: &[Diagnostic], sources: &Sources) {
    let mut printer = session.ui.printer(sources);
    let shown = |it: &&Diagnostic| it.severity() == Severity::Error || session.global.quiet < 2;
    let most = match printer.format {
        MessageFormat::Human => MAX_SHOWN,
        // Programs and editors have no trouble with many.
        MessageFormat::Short | MessageFormat::Json => usize::MAX,
    };
    for problem in problems.iter().filter(shown).take(most) {
        session.ui.verbatim(&printer.show(problem));
    }
    let left = problems.iter().filter(shown).count().saturating_sub(most);
    if left > 0 {
        session.ui.info(&format!("{left} more problems; --message-format short prints them all"));
    }
}

/// Prints what a template logged.
pub fn log_message(session: &Session, message: &program::LogMessage) {
    use raptor_lang::template::LogLevel;
    match message.level {
        LogLevel::Error => session.ui.error(&message.text),
        LogLevel::Warning => session.ui.warning(&message.text),
        LogLevel::Info => session.ui.info(&message.text),
        LogLevel::Debug | LogLevel::Trace => session.ui.detail(&message.text),
    }
}

//! The project of a command: base directory, Raptor.toml, lock, and evaluations over them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use raptor_lang::def::{Extension, ModuleName};
use raptor_lang::diag::{Diagnostic, Severity};
use raptor_lang::manifest::{self, Manifest};
use raptor_lang::program::{self, ModuleId};
use raptor_lang::source::Sources;
use raptor_lang::world::{FileKind, World};

use super::diagnostics;
use super::errors::{CliError, with_sources};
use super::session::{Session, discover_mirror};
use crate::derivation::DrvId;
use crate::eval::{Evaluator, Failed, Job, JobInput, Planned};
use crate::fetch::debian;
use crate::lock::{Lock, LockError, NetworkEntry};
use crate::world::Files;

/// Name of the project file.
pub const MANIFEST: &str = "Raptor.toml";
/// Name of the lock.
const LOCK: &str = "Raptor.lock";

/// A base directory with its settings.
pub struct Project {
    pub files: Files,
    pub manifest: Manifest,
    lock_file: PathBuf,
    lock: Mutex<Lock>,
}

/// A finished evaluation.
pub struct Evaluated<'a> {
    pub evaluator: Evaluator<'a>,
}

/// Something that a command line names.
pub enum Target {
    Module(ModuleId),
    Job(String),
}

impl Project {
    /// The project of the working directory, for commands that take modules.
    pub fn open(session: &Session, targets: &[String]) -> Result<Project, CliError> {
        let base = std::env::current_dir()?;
        let manifest = base.join(MANIFEST);
        match manifest.is_file() {
            true => Project::load(session, &manifest),
            false => {
                // Without a project file, the lock stands beside the target.
                let first = targets.first().and_then(|it| it.parse::<ModuleName>().ok());
                let dir = first.and_then(|name| {
                    let file = name.file(Path::new(""), |_| None, Extension::Rapt).ok()?;
                    file.parent().map(Path::to_path_buf)
                });
                let lock_file = base.join(dir.unwrap_or_default()).join(LOCK);
                Project::with(session, base, Manifest::default(), lock_file)
            }
        }
    }

    /// The project of a Raptor.toml.
    pub fn load(session: &Session, file: &Path) -> Result<Project, CliError> {
        let bytes = fs_err::read(file)?;
        let text = String::from_utf8(bytes).map_err(|err| {
            let at = err.utf8_error().valid_up_to();
            CliError::Other(format!("{}: not UTF-8 (first bad byte at offset {at})", file.display()))
        })?;
        let mut sources = Sources::default();
        let (manifest, problems) = manifest::parse(file, &text, &mut sources);
        report(session, &problems, &sources);
        if problems.iter().any(|it| it.severity() == Severity::Error) {
            return Err(CliError::Diagnosed(format!("{} has errors", file.display())));
        }
        let file = std::path::absolute(file)?;
        let base = file.parent().unwrap_or(Path::new("/")).to_path_buf();
        let lock_file = base.join(LOCK);
        Project::with(session, base, manifest, lock_file)
    }

    fn with(
        session: &Session,
        base: PathBuf,
        manifest: Manifest,
        lock_file: PathBuf,
    ) -> Result<Project, CliError> {
        let mut links = BTreeMap::new();
        for pair in session.global.link.chunks(2) {
            if let [name, path] = pair {
                links.insert(name.clone(), PathBuf::from(path));
            }
        }
        links.extend(manifest.links.iter().map(|(name, path)| (name.clone(), PathBuf::from(&path.value))));
        let lock = Lock::load(&lock_file)?;
        Ok(Project { files: Files::new(base, links), manifest, lock_file, lock: Mutex::new(lock) })
    }

    /// `[raptor] mirror`
    pub fn mirror_setting(&self) -> Option<String> {
        self.manifest.mirror.as_ref().map(|it| it.value.clone())
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

    /// Changes the lock on disk as it is now: other processes write to it, too.
    fn change_lock(&self, change: impl FnOnce(&mut Lock)) -> Result<(), LockError> {
        let mut ours = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // The directory is locked, for saving replaces the file. Where that is not possible, saving fails as well.
        let dir = self.lock_file.parent().and_then(|dir| std::fs::File::open(dir).ok());
        let _alone =
            dir.as_ref().map(|dir| rustix::fs::flock(dir, rustix::fs::FlockOperation::LockExclusive));
        let mut lock = Lock::load(&self.lock_file)?;
        change(&mut lock);
        lock.save(&self.lock_file)?;
        *ours = lock;
        Ok(())
    }

    /// The module that a name of the command line or of Raptor.toml means.
    pub fn module(&self, name: &str) -> Result<ModuleId, CliError> {
        let parsed: ModuleName = self
            .without_file_name(name)
            .parse()
            .map_err(|err| CliError::Other(format!("`{name}` is not a module name: {err}")))?;
        program::resolve(&self.files, &parsed, Path::new(""), Extension::Rapt)
            .map_err(|err| CliError::Other(format!("{name}: {err}")))
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
    pub fn target(&self, name: &str) -> Result<Target, CliError> {
        match self.module(name) {
            Ok(module) => Ok(Target::Module(module)),
            Err(_) if self.manifest.runs.contains_key(name) => Ok(Target::Job(name.to_owned())),
            Err(err) => Err(err),
        }
    }

    /// A job of Raptor.toml, ready to plan.
    pub fn job(&self, name: &str) -> Result<Job, CliError> {
        let job = self.manifest.runs.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.manifest.runs.keys().map(String::as_str).collect();
            CliError::Other(format!("there is no job `{name}`; {MANIFEST} has: {}", known.join(", ")))
        })?;
        let mut sources = BTreeMap::new();
        for (mount, values) in [("cache", &job.cache), ("input", &job.input), ("output", &job.output)] {
            let inputs = values.iter().map(|it| self.job_input(&it.value)).collect();
            sources.insert(mount.to_owned(), inputs);
        }
        Ok(Job {
            name: name.to_owned(),
            target: self.module(&job.target.value)?,
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
            Some((package, rest)) => self.files.link(package).map(|dir| dir.join(rest)),
            None => None,
        };
        JobInput { text: text.to_owned(), module, path: path.unwrap_or_else(|| PathBuf::from(text)) }
    }

    /// Where an output goes: relative to the working directory, or into a linked package.
    pub fn output(&self, path: &Path) -> PathBuf {
        self.files.on_disk(path).filter(|_| self.is_linked(path)).unwrap_or_else(|| path.to_path_buf())
    }

    /// State directory of a job.
    pub fn state_dir(&self, job: &str) -> Option<PathBuf> {
        self.manifest.runs.get(job)?.state_dir.as_ref().map(|it| PathBuf::from(&it.value))
    }

    fn is_linked(&self, path: &Path) -> bool {
        self.manifest.links.values().any(|link| path.starts_with(&link.value))
    }

    /// Evaluates; pins Debian bases that the lock lacks, unless that is forbidden, and evaluates again.
    pub fn evaluate<T>(
        &self,
        session: &Session,
        ask: impl Fn(&mut Evaluator<'_>) -> Result<T, Failed>,
    ) -> Result<(Evaluated<'_>, T), CliError> {
        loop {
            let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut evaluator = Evaluator::new(&self.files, lock);
            let result = ask(&mut evaluator);
            if !evaluator.has_errors() && !evaluator.unpinned.is_empty() {
                self.pin(session, &evaluator.unpinned)?;
                continue;
            }
            for message in &evaluator.log {
                log_message(session, message);
            }
            report(session, &evaluator.diagnostics, &evaluator.sources);
            return match result {
                Ok(value) if !evaluator.has_errors() => Ok((Evaluated { evaluator }, value)),
                _ => {
                    let n =
                        evaluator.diagnostics.iter().filter(|it| it.severity() == Severity::Error).count();
                    let s = if n == 1 { "" } else { "s" };
                    Err(CliError::Diagnosed(format!("evaluation stopped at {n} error{s}")))
                }
            };
        }
    }

    fn pin(&self, session: &Session, references: &BTreeSet<String>) -> Result<(), CliError> {
        for reference in references {
            if !session.may_record() {
                return Err(CliError::Other(format!(
                    "debian://{reference} is not in {}, and the options forbid to add it",
                    self.lock_file.display()
                )));
            }
            let fail = |error| CliError::Pin { reference: reference.clone(), error: Box::new(error) };
            let request: debian::Request = reference.parse().map_err(|err: debian::RequestError| {
                CliError::Other(format!("debian://{reference}: {err}"))
            })?;
            let mirror = discover_mirror(self.mirror_setting().as_deref())
                .map_err(|err| CliError::Other(with_sources(&err)))?;
            let busy = session.ui.busy(&format!("choosing the packages of debian://{reference}"));
            let pin = {
                let mut on_progress = |progress| {
                    if let debian::Progress::Expired { url, .. } = progress {
                        session.ui.warning(&format!("{url} has expired: the mirror may be stale"));
                    }
                };
                debian::pin(&session.client()?, &mirror, &request, now(), &mut on_progress).map_err(fail)?
            };
            busy.finish_and_clear();
            self.change_lock(|lock| {
                // Another process may have been quicker; its choice stands.
                lock.debian.entry(reference.clone()).or_insert(pin);
            })?;
        }
        Ok(())
    }

    /// Derivations of targets: the top layer of a module, the run of a job.
    pub fn derivations(
        &self,
        session: &Session,
        names: &[String],
    ) -> Result<(Evaluated<'_>, Vec<DrvId>), CliError> {
        let targets = names.iter().map(|name| self.target(name)).collect::<Result<Vec<_>, _>>()?;
        let jobs = targets.iter().map(|target| match target {
            Target::Job(name) => self.job(name).map(Some),
            Target::Module(_) => Ok(None),
        });
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        let (evaluated, planned) = self.evaluate(session, |evaluator| {
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
                    (Target::Module(module), None) => evaluator
                        .stack(module)
                        .and_then(|stack| stack.last().map(|it| Ok(it.id)).ok_or(Failed)),
                    (Target::Job(_), None) => Err(Failed),
                })
                .collect();
            results.into_iter().collect::<Result<Vec<_>, _>>()
        })?;
        let ids = planned.into_iter().collect::<Result<Vec<_>, _>>().map_err(CliError::Other)?;
        Ok((evaluated, ids))
    }
}

/// Seconds since 1970, for warnings about stale mirrors only.
fn now() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX))
}

/// Prints diagnostics, each once.
pub fn report(session: &Session, problems: &[Diagnostic], sources: &Sources) {
    let mut seen = Vec::new();
    for problem in problems {
        if seen.contains(&problem) || (problem.severity() == Severity::Warning && session.global.quiet > 1) {
            continue;
        }
        session.ui.raw(&diagnostics::render(problem, sources, session.ui.color()));
        seen.push(problem);
    }
}

fn log_message(session: &Session, message: &program::LogMessage) {
    use raptor_lang::template::LogLevel;
    match message.level {
        LogLevel::Error => session.ui.error(&message.text),
        LogLevel::Warning => session.ui.warning(&message.text),
        LogLevel::Info => session.ui.info(&message.text),
        LogLevel::Debug | LogLevel::Trace => session.ui.detail(&message.text),
    }
}

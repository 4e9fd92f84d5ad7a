//! What targets need of Raptor.lock: which entries, which they lack, and which layers record requests.

use std::collections::BTreeSet;
use std::path::Path;

use raptor_lang::def::DebianRequest;
use raptor_lang::program::{Base, ModuleId, Parameters};
use raptor_lang::world::World;

use super::errors::CliError;
use super::project::{Evaluated, MANIFEST, Project};
use super::run;
use crate::derivation::{Derivation, DrvId, Layer, Step};
use crate::eval::{Evaluator, Failed, Job, Planned, Unpinned, layer_name};
use crate::lock::{DebianPin, Input, Lock, LockError};
use crate::schedule::{Failure, RealizeError};

/// Targets of a command that looks at everything they are made of.
#[derive(Default)]
pub struct Targets {
    jobs: Vec<Job>,
    modules: Vec<ModuleId>,
}

impl Targets {
    /// Those that a command line names: modules, jobs, and groups as `%GROUP`.
    pub fn named(project: &Project, names: &[String], with: &Parameters) -> Result<Targets, CliError> {
        let mut targets = Targets::default();
        for name in names {
            let group = name.strip_prefix('%').map(|it| (it, project.manifest.groups.get(it)));
            match group {
                Some((_, Some(group))) => {
                    for job in &group.run {
                        targets.jobs.push(project.job(&job.value)?);
                    }
                    for module in &group.build {
                        targets.modules.push(project.module(&module.value)?);
                    }
                }
                Some((name, None)) => {
                    return Err(CliError::Other(format!("there is no group `{name}`")));
                }
                None => targets.push(project, name, with)?,
            }
        }
        Ok(targets)
    }

    /// A module, or failing that a job.
    fn push(&mut self, project: &Project, name: &str, with: &Parameters) -> Result<(), CliError> {
        match project.module(name) {
            Ok(module) => self.modules.push(ModuleId { with: with.clone(), ..module }),
            Err(_) if project.manifest.runs.contains_key(name) => {
                let mut job = project.job(name)?;
                job.target.with.extend(with.clone());
                self.jobs.push(job);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Everything that Raptor.toml names.
    pub fn everything(project: &Project) -> Result<Targets, CliError> {
        let jobs = project.manifest.runs.keys().map(|name| project.job(name)).collect::<Result<_, _>>()?;
        let builds = project.manifest.groups.values().flat_map(|group| &group.build);
        let modules = builds.map(|it| project.module(&it.value)).collect::<Result<_, _>>()?;
        Ok(Targets { jobs, modules })
    }

    /// The same, and the modules whose layers the lock has requests of, as far as their names say which they are.
    pub fn and_recorded(mut self, project: &Project) -> Targets {
        let layers = project.lock().layers;
        let modules =
            layers.keys().filter_map(|name| Some((name, project.module(&name.replace('/', ".")).ok()?)));
        for (name, module) in modules {
            if layer_name(&module) == *name && !self.modules.contains(&module) {
                self.modules.push(module);
            }
        }
        self
    }

    /// The same, or if there are none the modules in the base directory.
    pub fn or_beside(mut self, project: &Project) -> Targets {
        if self.jobs.is_empty() && self.modules.is_empty() {
            let names = project.files.list(Path::new("")).unwrap_or_default();
            let modules =
                names.iter().filter_map(|name| project.module(name.to_str()?.strip_suffix(".rapt")?).ok());
            self.modules.extend(modules);
        }
        self
    }

    /// The same, with an error if there are none.
    pub fn some(self) -> Result<Targets, CliError> {
        match self.jobs.is_empty() && self.modules.is_empty() {
            true => {
                Err(CliError::Usage(format!("name a target: there is no {MANIFEST} here that names any")))
            }
            false => Ok(self),
        }
    }

    /// Derivations of everything that the targets are built from. All are asked, so that all errors come at once.
    pub fn ask(&self, evaluator: &mut Evaluator<'_>) -> Result<Vec<DrvId>, Failed> {
        let modules = self.jobs.iter().flat_map(Job::modules).chain(self.modules.iter().cloned());
        evaluator.prepare(&modules.collect::<Vec<_>>());
        let jobs: Vec<_> = self.jobs.iter().map(|job| evaluator.job(job)).collect();
        let layers: Vec<_> = self.modules.iter().map(|module| evaluator.layer(module)).collect();
        let mut ids = Vec::new();
        for planned in jobs {
            match planned? {
                Planned::Pure { run, .. } => ids.push(run),
                Planned::Impure { stack, mounts, .. } => ids.extend(run::goals(&stack, &mounts)),
            }
        }
        for layer in layers {
            ids.push(layer?.id);
        }
        Ok(ids)
    }
}

/// What targets need of a lock.
#[derive(Default)]
pub struct Needs {
    /// Entries that they use.
    pub used: BTreeSet<Input>,
    /// Entries that the lock lacks; then [`Needs::used`] is not all.
    pub missing: BTreeSet<Input>,
}

impl Needs {
    /// Evaluates with as much of the lock as is asked for. What is wrong with the files is found out elsewhere.
    pub fn of(project: &Project, targets: &Targets) -> Needs {
        let lock = project.lock();
        let links = project.fetched_packages.iter().cloned().map(Input::Link);
        let (used, missing) = links.partition(|it| lock.has(it));
        let mut needs = Needs { used, missing };
        let mut so_far = Lock { layers: lock.layers.clone(), link: lock.link.clone(), ..Lock::default() };
        loop {
            let mut evaluator = Evaluator::new(&project.files, so_far.clone());
            // Who has no answer is told by what is unpinned.
            let ids = targets.ask(&mut evaluator).unwrap_or_default();
            let wanted: BTreeSet<Input> = evaluator.unpinned.keys().map(input).collect();
            // What stays unpinned is pinned for something else than is wanted now.
            let is_here = |it: &Input| lock.has(it) && !needs.used.contains(it);
            let (here, missing): (BTreeSet<_>, BTreeSet<_>) = wanted.into_iter().partition(is_here);
            needs.missing.extend(missing);
            if here.is_empty() {
                let layers =
                    recording(&evaluator, &ids).into_iter().map(|(_, it)| Input::Layer(it.name.clone()));
                needs.used.extend(layers.filter(|it| lock.has(it)));
                return needs;
            }
            here.iter().for_each(|it| so_far.take(it, &lock));
            needs.used.extend(here);
        }
    }

    /// Entries of a lock that nothing of these uses.
    pub fn superfluous(&self, lock: &Lock) -> Vec<Input> {
        lock.inputs().into_iter().filter(|it| !self.used.contains(it)).collect()
    }
}

fn input(unpinned: &Unpinned) -> Input {
    match unpinned {
        Unpinned::Debian(reference) => Input::Debian(reference.clone()),
        Unpinned::Docker(reference) => Input::Docker(reference.clone()),
        Unpinned::File(urls) => Input::File(urls.first().cloned().unwrap_or_default()),
    }
}

/// Layers with RUN steps among everything that goals need, inputs first.
pub fn recording<'e>(evaluator: &'e Evaluator<'_>, goals: &[DrvId]) -> Vec<(DrvId, &'e Layer<DrvId>)> {
    let layers =
        evaluator.closure(goals).into_iter().filter_map(|id| match evaluator.derivations.get(&id)? {
            Derivation::Layer(layer) => Some((id, layer)),
            _ => None,
        });
    layers.filter(|(_, layer)| runs(layer)).collect()
}

fn runs(layer: &Layer<DrvId>) -> bool {
    layer.steps.iter().any(|step| matches!(step, Step::Run { .. }))
}

/// The entry of the base that a module stands on, if it has one.
pub fn base(evaluator: &mut Evaluator<'_>, module: &ModuleId) -> Option<Input> {
    let mut module = module.clone();
    loop {
        let program = evaluator.program(&module).ok()?;
        match &program.from.as_ref()?.value {
            Base::Module(below) => module = below.clone(),
            Base::Debian(reference) => {
                let request = reference.parse::<DebianRequest>().ok()?;
                return Some(Input::Debian(request.to_string()));
            }
            Base::Docker(reference) => return Some(Input::Docker(reference.clone())),
            Base::Image(_) => return None,
        }
    }
}

/// Removes the requests of layers that have no RUN any more.
pub fn forget_idle(project: &Project, evaluated: &Evaluated<'_>, goals: &[DrvId]) -> Result<(), LockError> {
    let lock = project.lock();
    let evaluator = &evaluated.evaluator;
    for id in evaluator.closure(goals) {
        if let Some(Derivation::Layer(layer)) = evaluator.derivations.get(&id)
            && !runs(layer)
            && lock.layers.contains_key(&layer.name)
        {
            project.record(&layer.name, &[])?;
        }
    }
    Ok(())
}

/// The entry to update after a failure, if what it pins is nowhere any more.
pub fn to_update(project: &Project, evaluator: &Evaluator<'_>, failure: &Failure) -> Option<String> {
    let is_lost = match &failure.error {
        RealizeError::Fetch(error) => error.is_lost(),
        RealizeError::Step { refused, .. } | RealizeError::Network { refused, .. } => {
            refused.iter().any(|it| it.is_lost)
        }
        _ => false,
    };
    let lock = project.lock();
    let input = match evaluator.derivations.get(&failure.id).filter(|_| is_lost)? {
        Derivation::Layer(it) => Input::Layer(it.name.clone()),
        Derivation::Fetch(it) => Input::File(it.urls.first()?.clone()),
        Derivation::Bootstrap(it) => {
            let is_it = |pin: &DebianPin| pin.packages == it.packages && pin.date == it.epoch;
            Input::Debian(lock.debian.iter().find(|(_, pin)| is_it(pin))?.0.clone())
        }
        _ => return None,
    };
    lock.has(&input).then(|| input.to_string())
}

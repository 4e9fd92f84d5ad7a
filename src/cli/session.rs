//! What every command shares: options, talk, the store, the way to the network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use raptor_lang::manifest::Manifest;

use super::args::Global;
use super::errors::{CliError, failed_statement};
use super::image;
use super::inputs;
use super::progress::Watch;
use super::project::{Evaluated, Project};
use super::signals::Signals;
use super::ui::Ui;
use crate::derivation::DrvId;
use crate::fetch::debian::{self, Mirror, MirrorError, MirrorKind};
use crate::fetch::{self, Client, Elsewhere, Settings};
use crate::lock::NetworkEntry;
use crate::sandbox::{self, Launcher, Limits};
use crate::schedule::{self, Context, Goals, Options, Realization};
use crate::store::{self, RootResult, Store, Times};

/// A goal that was realized, for [`Session::keep`].
pub struct KeptGoal<'a> {
    /// What the user calls it.
    pub target: &'a str,
    /// Its derivation.
    pub id: DrvId,
    /// Where the result was put outside the store.
    pub placed: Option<&'a Path>,
}

/// One invocation.
pub struct Session {
    pub global: Global,
    pub ui: Arc<Ui>,
    /// Sees what the builds of this invocation do.
    pub watch: Watch,
    pub cancel: Arc<AtomicBool>,
    pub signals: Signals,
    /// Opened once: what it notes as used stays until this command ends.
    store: OnceLock<Store>,
    /// `[raptor] insecure-registries` of the project.
    insecure_registries: OnceLock<Vec<String>>,
    /// Where to look for what is gone: set by the project.
    elsewhere: OnceLock<Elsewhere>,
}

impl Session {
    pub fn new(global: Global, ui: Arc<Ui>, cancel: Arc<AtomicBool>, signals: Signals) -> Session {
        let watch = Watch::new(&ui);
        Session {
            global,
            ui,
            watch,
            cancel,
            signals,
            store: OnceLock::new(),
            insecure_registries: OnceLock::new(),
            elsewhere: OnceLock::new(),
        }
    }

    /// Opens the store and clears away what killed builds left in it.
    pub fn store(&self) -> Result<Store, CliError> {
        if let Some(store) = self.store.get() {
            return Ok(store.clone());
        }
        let (root, lower) = self.store_dirs()?;
        let store = Store::open_above(&root, &lower)?;
        for left in store.abandoned()? {
            // Not being able to clean up is no reason not to build.
            if let Err(err) = sandbox::remove(&Launcher::current(), left.path()) {
                self.ui.detail(&format!("cannot remove {}: {err}", left.path().display()));
            }
        }
        Ok(self.store.get_or_init(|| store).clone())
    }

    /// Where the store is, and where those are that are only read.
    pub fn store_dirs(&self) -> Result<(PathBuf, Vec<PathBuf>), CliError> {
        let is_root = rustix::process::geteuid().is_root();
        let root = self
            .global
            .store
            .clone()
            .or_else(|| store::default_root(is_root, |name| std::env::var_os(name)))
            .ok_or_else(|| CliError::Usage("no place for the store: set HOME or use --store".into()))?;
        let lower = match self.global.store_lower.is_empty() {
            true => std::env::split_paths(&std::env::var_os("RAPTOR_STORE_LOWER").unwrap_or_default())
                .filter(|it| !it.as_os_str().is_empty())
                .collect(),
            false => self.global.store_lower.clone(),
        };
        Ok((root, lower))
    }

    /// Makes a result of a project a root, so that `store gc` keeps what it needs.
    pub fn keep(
        &self,
        project: &Project,
        evaluated: &Evaluated<'_>,
        built: &(Store, Realization),
        goal: &KeptGoal<'_>,
    ) -> Result<(), CliError> {
        let (store, realization) = built;
        let Some(output) = realization.outputs.get(&goal.id).and_then(|it| it.0.last()) else {
            return Ok(());
        };
        let closure = evaluated.evaluator.closure(&[goal.id]);
        let outputs = closure.iter().filter_map(|id| realization.outputs.get(id)?.0.last().copied());
        let derivations = closure.iter().filter_map(|id| evaluated.evaluator.derivations.get(id));
        let outputs = outputs.chain(project.files.packages().trees());
        let mut bodies = schedule::bodies(derivations);
        bodies.extend(store.bodies_used());
        let provenance = closure.iter().filter_map(|id| evaluated.evaluator.provenance.get(id));
        bodies.extend(provenance.filter_map(|it| image::body(it.image.as_ref()?)));
        let result = RootResult {
            made: store::now(),
            derivation: goal.id.to_string(),
            output: *output,
            trees: outputs.collect(),
            bodies,
        };
        Ok(store.add_root(project.files.base(), goal.target, goal.placed, result)?)
    }

    /// Whether the lock may change.
    pub fn may_record(&self) -> bool {
        !(self.global.locked || self.global.frozen || self.global.no_act || self.offline())
    }

    /// Whether the network may be used.
    pub fn offline(&self) -> bool {
        self.global.offline || self.global.frozen
    }

    /// What each sandbox may take of this machine.
    pub fn limits(&self) -> Limits {
        let usual = Limits::of_this_machine();
        Limits {
            memory: self.global.memory.unwrap_or(usual.memory),
            disk: self.global.disk.or(usual.disk),
            step_time: self.global.timeout.or(usual.step_time),
        }
    }

    /// The way to the network.
    pub fn client(&self) -> Result<Client, CliError> {
        self.client_of().map_err(|err| CliError::Other(err.to_string()))
    }

    fn client_of(&self) -> Result<Client, fetch::Error> {
        let elsewhere = match self.elsewhere.get() {
            Some(elsewhere) => elsewhere.clone(),
            None => elsewhere(&Manifest::default())?,
        };
        let mut settings = Settings { offline: self.offline(), elsewhere, ..Settings::from_env() };
        settings.registries.insecure.extend(self.insecure_registries.get().into_iter().flatten().cloned());
        Client::new(settings)
    }

    /// From now on these registries need no certificate.
    pub fn allow_insecure(&self, registries: Vec<String>) {
        // A command has one project.
        let _ = self.insecure_registries.set(registries);
    }

    /// Looks for what is gone where a project says.
    pub fn look_for(&self, manifest: &Manifest) -> Result<(), CliError> {
        let elsewhere = elsewhere(manifest).map_err(|err| CliError::Other(err.to_string()))?;
        // Of several projects, which only `store repair` has, the first counts.
        let _ = self.elsewhere.set(elsewhere);
        Ok(())
    }

    /// Realizes derivations of an evaluation and keeps the lock up to date.
    pub fn realize(
        &self,
        project: &Project,
        evaluated: &Evaluated<'_>,
        goals: &[DrvId],
    ) -> Result<(Store, Realization), CliError> {
        match self.realize_most(project, evaluated, goals)? {
            (built, None) => Ok(built),
            (_, Some(failed)) => Err(failed),
        }
    }

    /// The same; if some failed, what became of the others comes with the error.
    pub fn realize_most(
        &self,
        project: &Project,
        evaluated: &Evaluated<'_>,
        goals: &[DrvId],
    ) -> Result<((Store, Realization), Option<CliError>), CliError> {
        let store = self.store()?;
        for id in evaluated.evaluator.closure(goals) {
            if let Some(derivation) = evaluated.evaluator.derivations.get(&id) {
                schedule::remember(&store, &id, derivation)?;
            }
        }
        let recorded = Mutex::new(BTreeMap::new());
        let recorder = |layer: &str, entries: &[NetworkEntry]| {
            let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
            recorded.insert(layer.to_owned(), entries.to_vec());
            project.record(layer, entries)
        };
        let by_others = |layer: &str| {
            let network = project.recorded(layer)?;
            if let Some(network) = &network {
                let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
                recorded.insert(layer.to_owned(), network.clone());
            }
            Ok(network)
        };
        let request = Goals {
            derivations: &evaluated.evaluator.derivations,
            provenance: &evaluated.evaluator.provenance,
            files: Some(&project.files),
            goals,
            recorder: &recorder,
            recorded: &by_others,
        };
        let mirrors = project.mirror_settings();
        let (realization, failures) = self.realize_most_with(&store, &request, &mirrors, self.may_record());
        let failed = (!failures.is_empty()).then(|| {
            let evaluator = &evaluated.evaluator;
            let places = failures
                .iter()
                .map(|it| {
                    failed_statement(it, evaluator.provenance.get(&it.id), &evaluator.sources, &self.ui)
                })
                .collect();
            let updates =
                failures.iter().filter_map(|it| inputs::to_update(project, evaluator, it)).collect();
            CliError::Failed { failures, places, updates }
        });
        if failed.is_none() && self.may_record() {
            inputs::forget_idle(project, evaluated, goals)?;
        }
        let recorded = recorded.into_inner().unwrap_or_else(PoisonError::into_inner);
        if failed.is_none() && !recorded.is_empty() {
            let order = evaluated.evaluator.closure(goals);
            schedule::remember_recorded(&store, &evaluated.evaluator.derivations, &order, &recorded)?;
        }
        Ok(((store, realization), failed))
    }

    /// Realizes derivations.
    pub fn realize_with(
        &self,
        store: &Store,
        goals: &Goals<'_>,
        mirrors: &MirrorSettings,
        record: bool,
    ) -> Result<Realization, Vec<schedule::Failure>> {
        match self.realize_most_with(store, goals, mirrors, record) {
            (realization, failures) if failures.is_empty() => Ok(realization),
            (_, failures) => Err(failures),
        }
    }

    fn realize_most_with(
        &self,
        store: &Store,
        goals: &Goals<'_>,
        mirrors: &MirrorSettings,
        record: bool,
    ) -> (Realization, Vec<schedule::Failure>) {
        let client = match self.client_of() {
            Ok(client) => client,
            Err(err) => {
                let failed =
                    |id: &DrvId| schedule::Failure { id: *id, name: "set-up".to_owned(), error: err.into() };
                return (Realization::default(), goals.goals.first().map(failed).into_iter().collect());
            }
        };
        let jobs = self.global.jobs.or_else(|| std::thread::available_parallelism().ok());
        let find_mirror = |kind| mirrors.discover(kind);
        let times = self.times(store);
        let context = Context {
            store: store.clone(),
            launcher: Launcher::current(),
            client,
            mirror: &find_mirror,
            options: Options {
                jobs: jobs.map_or(1, usize::from),
                keep_going: self.global.keep_going,
                record,
                offline: self.offline(),
                limits: self.limits(),
                keep_failed: self.global.keep_failed,
                checkpoints: !self.global.no_checkpoints,
            },
            cancel: &self.cancel,
            times: &times,
            observer: &self.watch,
        };
        let result = schedule::realize(&context, goals);
        self.watch.end();
        if let Err(err) = store.add_times(&self.watch.trace().times()) {
            // The next estimate will be poorer.
            self.ui.detail(&format!("cannot remember how long it took: {err}"));
        }
        result
    }

    /// Times of earlier builds. Not knowing them is no reason not to build.
    fn times(&self, store: &Store) -> Times {
        store.times().unwrap_or_else(|err| {
            self.ui.info(&format!("note: the times of earlier builds are not used: {err}"));
            Times::default()
        })
    }
}

/// What a project says of Debian's mirrors.
#[derive(Clone, Debug, Default)]
pub struct MirrorSettings {
    /// `[raptor] mirror`
    pub main: Option<String>,
    /// `[raptor] security-mirror`
    pub security: Option<String>,
}

impl MirrorSettings {
    /// A Debian mirror: the setting of Raptor.toml, the environment variable, or the host's apt sources.
    pub fn discover(&self, kind: MirrorKind) -> Result<Mirror, MirrorError> {
        let setting = match kind {
            MirrorKind::Main => &self.main,
            MirrorKind::Security => &self.security,
        };
        let env = std::env::var(kind.variable()).ok();
        debian::discover(kind, setting.as_deref(), env.as_deref())
    }
}

/// Where to look for what is gone: the settings of Raptor.toml, then those of the environment.
fn elsewhere(manifest: &Manifest) -> Result<Elsewhere, fetch::Error> {
    let (snapshot, caches) = ("RAPTOR_DEBIAN_SNAPSHOT", "RAPTOR_CACHES");
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let written = manifest.snapshot.as_ref().map(|it| ("Raptor.toml, raptor.snapshot", it.value.clone()));
    let named = manifest.caches.iter().map(|it| ("Raptor.toml, raptor.caches", it.value.clone()));
    let more = var(caches).unwrap_or_default();
    let more = more.split_whitespace().map(|url| (caches, url.to_owned()));
    Elsewhere::new(written.or_else(|| var(snapshot).map(|url| (snapshot, url))), named.chain(more).collect())
}

/// An absolute form of a path given on the command line.
pub fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    Ok(std::path::absolute(path)?)
}

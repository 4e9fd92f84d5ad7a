//! Realizing one derivation whose inputs are there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use raptor_lang::stmt::Digest;

use super::checkpoints::Plan;
use super::failed::{self, FailedState};
use super::log::Log;
use super::words::{OUTPUT, run_mounts, sandbox_step, step_text};
use super::{Context, Goals, Kept, Progress, RealizeError, apt, bootstrap, mirrors, net, once};
use crate::derivation::{Bootstrap, Derivation, DrvId, Fetch, Image, Layer, Outputs, Run, Source, Step};
use crate::fetch::debian::{self, Mirror, MirrorKind};
use crate::fetch::proxy::{Authority, Proxy, ProxyConfig, ProxyEvent, Refusal, missing_bodies};
use crate::fetch::{self, Client, Wanted};
use crate::lock::NetworkEntry;
use crate::sandbox::{self, Capture, Event, LayerBlob, Listeners, Network, Report, Request};
use crate::store::{Key, Realized, Store, WorkDir};
use crate::tree::{TreeHash, TreeInfo};
use crate::world::import;

/// A derivation that is realized now.
pub struct Built {
    /// Its own output.
    pub output: TreeHash,
    /// Another process had done it meanwhile.
    pub reused: bool,
}

/// Realizes a derivation, or finds that somebody else just did.
pub fn realize_one(
    ctx: &Context<'_>,
    goals: &Goals<'_>,
    id: DrvId,
    resolved: &Derivation<Outputs>,
) -> Result<Built, RealizeError> {
    // If another process realizes it, its result will do.
    let locked = once::lock_key(resolved);
    let _lock = once::wait(ctx, &locked)?;
    let resolved = &*once::refreshed(ctx, goals, resolved)?;
    let key = Key::new(resolved.key());
    if let Some(output) = once::known(ctx, resolved, &key)? {
        return Ok(Built { output, reused: true });
    }
    let begin = std::time::Instant::now();
    let name = goals.derivations.get(&id).map_or("", Derivation::name);
    let job = Job { ctx, id, name, watch: Arc::default() };
    let (output, key) = match resolved {
        Derivation::Source(it) => {
            return Ok(Built { output: realize_source(ctx, goals, id, it)?, reused: false });
        }
        Derivation::Fetch(it) => (job.fetched(it)?, key),
        Derivation::Bootstrap(it) => (job.bootstrap(it)?, key),
        Derivation::Image(it) => (job.image(it)?, key),
        Derivation::Layer(it) => {
            let (output, network) = job.layer(it, goals)?;
            // What was recorded is an input, so the result belongs to the derivation that has it.
            let recorded = Derivation::Layer(Layer { network, ..it.clone() });
            (output, Key::new(recorded.key()))
        }
        Derivation::Run(it) => (job.run(it)?, key),
    };
    if resolved.has_log() {
        super::log::name_by_key(&ctx.store, &id, &key)?;
    }
    // `gc` takes this lock before it removes a record.
    let _filed = (key != locked).then(|| once::wait(ctx, &key)).transpose()?;
    let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    ctx.store.set_realized(&key, &Realized { output, millis })?;
    Ok(Built { output, reused: false })
}

fn realize_source(
    ctx: &Context<'_>,
    goals: &Goals<'_>,
    id: DrvId,
    source: &Source,
) -> Result<TreeHash, RealizeError> {
    let file = goals.provenance.get(&id).and_then(|it| it.source.as_ref());
    match (goals.files, file) {
        (Some(files), Some(file)) => Ok(import(files, file, &source.tree, &ctx.store)?.hash),
        _ => Err(RealizeError::UnknownSource { name: source.name.clone(), tree: source.tree }),
    }
}

/// A way to download files.
type Download =
    fn(&Client, &[Wanted], &Store, &(dyn Fn(u64) + Sync), &AtomicBool) -> Result<Vec<PathBuf>, fetch::Error>;

/// One derivation at work.
struct Job<'a> {
    ctx: &'a Context<'a>,
    id: DrvId,
    name: &'a str,
    watch: Arc<Watch>,
}

/// What the proxy's threads tell of a layer being built.
#[derive(Default)]
struct Watch {
    /// Fetched so far.
    bytes: AtomicU64,
    /// Files they belong to.
    files: AtomicUsize,
    /// The step that is running.
    step: AtomicUsize,
    /// The step that was running when a URL was first refused.
    refused: Mutex<BTreeMap<String, usize>>,
}

impl Watch {
    fn hear(&self, event: ProxyEvent<'_>) {
        match event {
            ProxyEvent::Bytes(more) => {
                self.bytes.fetch_add(more, Ordering::Relaxed);
            }
            ProxyEvent::Refused { url } => {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.entry(url.to_owned()).or_insert_with(|| self.step.load(Ordering::Relaxed));
            }
            ProxyEvent::Fetched { .. } => {
                self.files.fetch_add(1, Ordering::Relaxed);
            }
            ProxyEvent::Replayed { .. } => {}
        }
    }

    /// The first step that made one of these requests.
    fn step_of(&self, refusals: &[Refusal]) -> usize {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = refusals.iter().filter_map(|it| refused.get(&it.url));
        steps.min().copied().unwrap_or_else(|| self.step.load(Ordering::Relaxed))
    }
}

/// What a sandbox did, with the directory that holds it.
struct Finished {
    work: WorkDir,
    report: Report,
    used: Vec<NetworkEntry>,
}

impl Job<'_> {
    /// The file of a FETCH: what is known in full may be there already, or resumed.
    fn fetched(&self, it: &Fetch) -> Result<TreeHash, RealizeError> {
        let path = match (&it.digest, it.size) {
            (Digest::Sha256(sha256), Some(size)) => {
                let (name, urls) = (it.name.clone(), it.urls.clone());
                self.fetch(&[Wanted { name, urls, sha256: sha256.clone(), size }])?.into_iter().next()
            }
            (digest, _) => {
                let on_bytes = |bytes| {
                    let (id, total, files) = (self.id, None, 1);
                    self.ctx.observer.event(Progress::Fetched { id, bytes, total, files });
                };
                let (client, store) = (&self.ctx.client, &self.ctx.store);
                let key = Key::new(Derivation::<Outputs>::Fetch(it.clone()).key());
                let (expected, cached) = (Some(digest), Some(&key));
                match client.download_sizeless(&it.urls, expected, cached, store, &on_bytes, self.ctx.cancel)
                {
                    Err(fetch::Error::Cancelled) => return Err(RealizeError::Cancelled),
                    other => Some(other?.path),
                }
            }
        };
        path.and_then(|path| tree_name(&path).parse().ok()).ok_or(RealizeError::NoOutput)
    }

    fn bootstrap(&self, it: &Bootstrap<Outputs>) -> Result<TreeHash, RealizeError> {
        let archive = self.ctx.client.snapshots(&[it.epoch]);
        let mirrors = |from: Option<&str>| mirrors::mirrors(it, from, &self.find_mirror(), &archive);
        let paths = self.fetch(&debian::wanted(it.all(), mirrors))?;
        let debs: Vec<String> = paths.iter().map(|path| tree_name(path)).collect();
        let plan = bootstrap::steps(it, &debs);
        let request = Request {
            mounts: plan.mounts,
            run_files: plan.run_files,
            steps: plan.steps,
            ..self.request(Vec::new(), Capture::Layer, Network::None, it.epoch)
        };
        self.register_layer(self.sandbox(request, None, None)?)
    }

    fn image(&self, it: &Image<Outputs>) -> Result<TreeHash, RealizeError> {
        let lower = it.parent.iter().flat_map(|parent| &parent.0).map(TreeHash::to_string).collect();
        let tree = it.source.0.last().ok_or(RealizeError::NoOutput)?.to_string();
        let (member, sha256, diff_id) = (it.member.clone(), it.sha256.clone(), it.diff_id.clone());
        let blob = LayerBlob { tree, member, sha256, diff_id };
        let steps = vec![sandbox::Step::UnpackLayer(blob)];
        let request = Request { steps, ..self.request(lower, Capture::Layer, Network::None, it.epoch) };
        self.register_layer(self.sandbox(request, None, None)?)
    }

    fn layer(
        &self,
        it: &Layer<Outputs>,
        goals: &Goals<'_>,
    ) -> Result<(TreeHash, Vec<NetworkEntry>), RealizeError> {
        let lower = it.parent.iter().flat_map(|parent| &parent.0).map(TreeHash::to_string).collect();
        let runs = it.steps.iter().any(|step| matches!(step, Step::Run { .. }));
        let network = if runs { Network::Proxy } else { Network::None };
        let mut request = self.request(lower, Capture::Layer, network, it.epoch);
        request.run_files.insert("apt.conf".to_owned(), apt::apt_conf().to_owned());
        request.steps = it.steps.iter().map(sandbox_step).collect();
        request.keep.clone_from(&it.keep);
        if runs {
            let authority = Authority::of_process().map_err(RealizeError::Proxy)?;
            request.passing_files.insert("ca.crt".to_owned(), authority.pem());
            request.forbidden = authority.marks();
            request.run_files.insert("wgetrc".to_owned(), net::wgetrc());
        }
        let mut plan = match runs && self.ctx.options.checkpoints {
            true => {
                let base = mirrors::base(goals.derivations, self.id).map(mirrors::seen);
                Plan::new(self.ctx, it, &request.run_files, base.as_deref())
            }
            false => None,
        };
        let finished = loop {
            let config = runs.then(|| self.proxy_config(it, goals, plan.as_ref()));
            if let Some(config) = &config
                && !self.ctx.options.offline
            {
                // All at once is faster than one by one, as the programs will ask for them. What cannot be had may not
                // be asked for; if it is, the proxy says so.
                let ahead = it.network.iter().filter(|it| !config.answered.contains(it)).cloned();
                let wanted = missing_bodies(&ahead.collect::<Vec<_>>(), &config.mirrors, &self.ctx.store)?;
                if let Err(RealizeError::Cancelled) = self.fetch_most(&wanted) {
                    return Err(RealizeError::Cancelled);
                }
            }
            request.checkpoints = plan.as_ref().map(Plan::request);
            match (self.sandbox(request.clone(), config, plan.as_mut()), &mut plan) {
                // Then from the beginning.
                (Err(RealizeError::Sandbox(sandbox::Error::Checkpoint(_))), Some(plan)) => plan.forget(),
                (other, _) => break other?,
            }
        };
        if let Some(plan) = plan {
            plan.finish();
        }
        // A locked build replays from what the lock has; that it needed less is no reason to change it.
        let network = match self.ctx.options.record {
            true => finished.used.clone(),
            false => it.network.clone(),
        };
        if network != it.network {
            (goals.recorder)(&it.name, &network)?;
        }
        Ok((self.register_layer(finished)?, network))
    }

    fn run(&self, it: &Run<Outputs>) -> Result<TreeHash, RealizeError> {
        let lower = it.container.0.iter().map(TreeHash::to_string).collect();
        let mut request = self.request(lower, Capture::Discard, Network::None, it.epoch);
        request.mounts = run_mounts(&it.mounts);
        request.steps =
            vec![sandbox::Step::Run { argv: it.argv.clone(), env: it.env.clone(), cwd: "/".to_owned() }];
        let finished = self.sandbox(request, None, None)?;
        let info = finished.report.outputs.get(OUTPUT).ok_or(RealizeError::NoOutput)?;
        self.register(&finished.work, &Path::new("out").join(OUTPUT), info)
    }

    /// Downloads files into the store, with progress.
    fn fetch(&self, wanted: &[Wanted]) -> Result<Vec<PathBuf>, RealizeError> {
        self.fetch_by(Client::download_all, wanted)
    }

    /// The same; what fails keeps no other from being fetched.
    fn fetch_most(&self, wanted: &[Wanted]) -> Result<Vec<PathBuf>, RealizeError> {
        self.fetch_by(Client::download_most, wanted)
    }

    fn fetch_by(&self, download: Download, wanted: &[Wanted]) -> Result<Vec<PathBuf>, RealizeError> {
        let size = |files: &[Wanted]| files.iter().map(|it| it.size).sum::<u64>();
        let missing = self.missing(wanted)?;
        let (total, files) = (size(&missing), missing.len());
        // What is here already is told as well, but it is not fetched.
        let here = size(wanted).saturating_sub(total);
        let told = AtomicU64::new(0);
        let on_bytes = |more| {
            let bytes = (told.fetch_add(more, Ordering::Relaxed) + more).saturating_sub(here);
            self.watch.bytes.fetch_max(bytes, Ordering::Relaxed);
            self.tell_fetched(Some(total));
        };
        self.watch.files.fetch_add(files, Ordering::Relaxed);
        match download(&self.ctx.client, wanted, &self.ctx.store, &on_bytes, self.ctx.cancel) {
            Err(fetch::Error::Cancelled) => Err(RealizeError::Cancelled),
            other => Ok(other?),
        }
    }

    /// Those of the files that the store does not have.
    fn missing(&self, wanted: &[Wanted]) -> Result<Vec<Wanted>, RealizeError> {
        let mut missing = Vec::new();
        for it in wanted {
            if self.ctx.store.fetched(&it.sha256, it.size)?.is_none() {
                missing.push(it.clone());
            }
        }
        Ok(missing)
    }

    fn tell_fetched(&self, total: Option<u64>) {
        let (bytes, files) =
            (self.watch.bytes.load(Ordering::Relaxed), self.watch.files.load(Ordering::Relaxed));
        if bytes > 0 {
            self.ctx.observer.event(Progress::Fetched { id: self.id, bytes, total, files });
        }
    }

    fn request(&self, lower: Vec<String>, capture: Capture, network: Network, epoch: i64) -> Request {
        Request {
            trees: self.ctx.store.trees(),
            work: Default::default(),
            lower,
            capture,
            keep: Vec::new(),
            mounts: Vec::new(),
            run_files: BTreeMap::new(),
            passing_files: BTreeMap::new(),
            forbidden: Vec::new(),
            steps: Vec::new(),
            network,
            epoch,
            limits: self.ctx.options.limits,
            checkpoints: None,
        }
    }

    fn register_layer(&self, finished: Finished) -> Result<TreeHash, RealizeError> {
        let info = finished.report.layer.ok_or(RealizeError::NoOutput)?;
        self.register(&finished.work, Path::new("upper"), &info)
    }

    fn register(&self, work: &WorkDir, path: &Path, info: &TreeInfo) -> Result<TreeHash, RealizeError> {
        let sandbox = work.path().join("sandbox");
        self.ctx.store.register(&sandbox.join(path), info)?;
        sandbox::remove(&self.ctx.launcher, &sandbox)?;
        Ok(info.hash)
    }

    /// Runs a sandbox in a fresh work directory, with log, progress and, if wanted, the recording proxy.
    fn sandbox(
        &self,
        mut request: Request,
        proxy: Option<ProxyConfig>,
        plan: Option<&mut Plan>,
    ) -> Result<Finished, RealizeError> {
        sandbox::check_host()?;
        let work = self.ctx.store.work_dir()?;
        request.work = work.path().join("sandbox");
        fs_err::create_dir(&request.work)?;
        let result = self.sandbox_in(&work, &request, proxy, plan);
        match result {
            Ok((report, used)) => Ok(Finished { work, report, used }),
            Err(mut error) => {
                if self.ctx.options.keep_failed
                    && let RealizeError::Step { number, text, kept, .. } = &mut error
                {
                    let state = FailedState::new(self.name, *number, text, &request);
                    *kept = failed::keep(&self.ctx.store, &self.ctx.launcher, &self.id, &state);
                }
                // What is left may belong to other ids; the error that led here is the one worth telling.
                let _ = sandbox::remove(&self.ctx.launcher, &request.work);
                Err(error)
            }
        }
    }

    fn sandbox_in(
        &self,
        work: &WorkDir,
        request: &Request,
        proxy: Option<ProxyConfig>,
        mut plan: Option<&mut Plan>,
    ) -> Result<(Report, Vec<NetworkEntry>), RealizeError> {
        let texts: Vec<String> = request.steps.iter().map(step_text).collect();
        let mut log = Log::create(work.path(), &self.id, &self.ctx.store)?;
        let mut log_error = None;
        let mut resumed = plan.as_ref().and_then(|it| it.resume());
        if let Some(resumed) = &resumed {
            log.resume(&resumed.log, resumed.step)?;
        }
        let running: RefCell<Option<Proxy>> = RefCell::default();
        let mut proxy_error = None;
        let mut config = proxy;
        let mut serve = |listeners: Listeners| {
            if let Some(config) = config.take() {
                match Proxy::start(listeners, config) {
                    Ok(proxy) => drop(running.replace(Some(proxy))),
                    Err(error) => proxy_error = Some(error),
                }
            }
        };
        let mut on_event = |event: Event| {
            let logged = match &event {
                Event::StepStarted { idx } => {
                    self.watch.step.store(*idx, Ordering::Relaxed);
                    let text = texts.get(*idx).map_or("", String::as_str);
                    let of = texts.len();
                    if resumed.take().is_some() {
                        self.ctx.observer.event(Progress::Resumed { id: self.id, number: idx + 1, of });
                    }
                    self.ctx.observer.event(Progress::Step { id: self.id, number: idx + 1, of, text });
                    log.step(idx + 1, text)
                }
                Event::StepDone { idx } => {
                    self.ctx.observer.event(Progress::StepDone { id: self.id, number: idx + 1 });
                    Ok(())
                }
                Event::Checkpoint { idx, problem } => {
                    let asked = running.borrow().as_ref().and_then(Proxy::settled);
                    let taken = match (problem, &mut plan) {
                        (Some(problem), _) => Err(problem.clone()),
                        (None, Some(plan)) => plan.taken(*idx, asked, &mut log),
                        (None, None) => Ok(()),
                    };
                    // Not being able to keep one is no reason not to build.
                    taken.or_else(|why| log.note(&format!("no checkpoint after step {}: {why}", idx + 1)))
                }
                Event::Output(bytes) => {
                    self.ctx.observer.event(Progress::Output { id: self.id, bytes });
                    self.tell_fetched(None);
                    log.output(bytes)
                }
            };
            if let Err(error) = logged {
                log_error.get_or_insert(error);
            }
        };
        let serve: Option<&mut dyn FnMut(Listeners)> =
            if request.network == Network::Proxy { Some(&mut serve) } else { None };
        let result = sandbox::run(&self.ctx.launcher, request, serve, self.ctx.cancel, &mut on_event);
        // An interrupted build does not wait for bodies that are still coming.
        if matches!(result, Err(sandbox::Error::Cancelled)) {
            running.take();
        }
        let outcome = running.take().map(Proxy::finish);
        let (used, refused) = outcome.map(|it| (it.used, it.refused)).unwrap_or_default();
        self.tell_fetched(None);
        let tail = log.finish()?;
        if let Some(error) = proxy_error {
            return Err(RealizeError::Proxy(error));
        }
        let text = |idx: usize| texts.get(idx).cloned().unwrap_or_default();
        match result {
            Err(sandbox::Error::Cancelled) => Err(RealizeError::Cancelled),
            Err(sandbox::Error::StepFailed { idx, failure }) => {
                let (text, kept) = (text(idx), Kept::No);
                Err(RealizeError::Step { number: idx + 1, text, tail, refused, failure, kept })
            }
            Err(sandbox::Error::Forbidden(path)) => Err(RealizeError::Certificate(path)),
            Err(error) => Err(error.into()),
            Ok(_) if !refused.is_empty() => {
                let idx = self.watch.step_of(&refused);
                Err(RealizeError::Network { refused, step: Some((idx + 1, text(idx))) })
            }
            Ok(report) => match log_error {
                Some(error) => Err(error.into()),
                None => Ok((report, used)),
            },
        }
    }

    /// What this machine says of Debian's mirrors; without it, those count that the image names.
    fn find_mirror(&self) -> impl Fn(MirrorKind) -> Option<Mirror> + '_ {
        |kind| (self.ctx.mirror)(kind).ok().filter(|_| !self.ctx.options.offline)
    }

    fn proxy_config(&self, it: &Layer<Outputs>, goals: &Goals<'_>, plan: Option<&Plan>) -> ProxyConfig {
        let watch = self.watch.clone();
        let on_event = Arc::new(move |event: ProxyEvent<'_>| watch.hear(event));
        let base = mirrors::base(goals.derivations, self.id);
        let archive = self.ctx.client.snapshots(&mirrors::archive_times(it));
        let aliases = base.map_or(Vec::new(), |it| mirrors::aliases(it, &self.find_mirror(), &archive));
        ProxyConfig {
            recorded: it.network.clone(),
            answered: plan.map(Plan::answered).unwrap_or_default(),
            allow_new: self.ctx.options.record,
            offline: self.ctx.options.offline,
            mirrors: aliases,
            client: self.ctx.client.clone(),
            store: self.ctx.store.clone(),
            on_event,
        }
    }
}

fn tree_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

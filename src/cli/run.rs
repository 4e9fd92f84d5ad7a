//! `raptor run`: a container of a target, on the host's files and network.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use raptor_lang::program::ModuleId;
use raptor_lang::stmt::MountKind;
use serde_json::json;

use super::args::{ContainerNetwork, Run, Stale};
use super::errors::CliError;
use super::project::Project;
use super::session::{Session, absolute};
use super::state::StateDir;
use crate::derivation::DrvId;
use crate::eval::{Job, JobMount, Stack};
use crate::sandbox::{
    self, Caller, Capture, InteractRequest, Launcher, Mount, MountSource, Network, Report, Request,
};
use crate::schedule::{self, Realization};
use crate::store::Store;
use crate::tree::TreeHash;

/// The device that runs machines.
pub const KVM: &str = "/dev/kvm";

/// A container to run.
pub struct Container<'a> {
    /// What the user calls it.
    pub target: &'a str,
    pub stack: &'a Stack,
    pub argv: &'a [String],
    pub mounts: &'a [JobMount],
    pub env: &'a BTreeMap<String, String>,
    pub state: Option<StateDir>,
    pub stale: Stale,
    pub network: Network,
}

/// How a container ended.
pub struct Ended {
    /// Exit status, or 128 and the signal.
    pub status: i32,
    /// The user has asked it to end, by a signal.
    pub asked: bool,
}

pub fn main(session: &Session, args: &Run) -> Result<ExitCode, CliError> {
    if args.json && !session.global.no_act {
        return Err(CliError::Usage("--json needs -n: standard output is the program's".to_owned()));
    }
    let project = Project::open(session, std::slice::from_ref(&args.target))?;
    let job = job(&project, args)?;
    let (evaluated, (stack, argv, mounts)) =
        project.evaluate(session, |evaluator| evaluator.host_job(&job))?;
    let goals = goals(&stack, &mounts);
    check_mounts(session, &project, &job, &mounts, |_| false)?;
    if session.global.no_act {
        would_run(session, &project, args, &argv, &mounts)?;
        return Ok(ExitCode::SUCCESS);
    }
    let state = args.state_dir.as_deref().map(StateDir::open).transpose()?;
    let (store, realization) = session.realize(&project, &evaluated, &goals)?;
    let container = Container {
        target: &args.target,
        stack: &stack,
        argv: &argv,
        mounts: &mounts,
        env: &job.env,
        state,
        stale: args.stale_state,
        network: match args.network {
            ContainerNetwork::None => Network::None,
            ContainerNetwork::Host => Network::Host,
        },
    };
    let ended = execute(session, &project, &store, &realization, container)?;
    Ok(ExitCode::from(u8::try_from(ended.status).unwrap_or(1)))
}

fn job(project: &Project, args: &Run) -> Result<Job, CliError> {
    let mut sources: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let named = args.mount.chunks(2).filter_map(|it| Some((it.first()?.as_str(), it.get(1)?)));
    let short = [("cache", &args.cache), ("input", &args.input)];
    let short = short.into_iter().flat_map(|(name, values)| values.iter().map(move |it| (name, it)));
    for (name, source) in named.chain(short).chain(args.output.iter().map(|it| ("output", it))) {
        sources.entry(name.to_owned()).or_default().push(project.job_input(source));
    }
    Ok(Job {
        name: args.target.clone(),
        target: ModuleId { with: args.with.parameters(), ..project.module(&args.target)? },
        sources,
        entrypoint: None,
        args: (!args.args.is_empty()).then(|| args.args.clone()),
        env: args.env.iter().cloned().collect(),
        stateful: true,
    })
}

/// Everything that must be realized before a container can run.
pub fn goals(stack: &Stack, mounts: &[JobMount]) -> Vec<DrvId> {
    let inputs = mounts.iter().flat_map(|it| &it.targets).flat_map(|(_, stack)| stack.last());
    stack.last().into_iter().chain(inputs).map(|it| it.id).collect()
}

/// Prints what would be run.
fn would_run(
    session: &Session,
    project: &Project,
    args: &Run,
    argv: &[String],
    mounts: &[JobMount],
) -> Result<(), CliError> {
    if !args.json {
        session.ui.info(&format!("would run {}", argv.join(" ")));
        return Ok(());
    }
    let mut shown = Vec::new();
    for mount in mounts {
        let sources = match &mount.host {
            Some(path) => vec![absolute(&project.output(path))?.display().to_string()],
            None => mount.targets.iter().map(|(name, _)| name.clone()).collect(),
        };
        let readonly = mount.readonly || mount.host.is_none();
        shown.push(
            json!({ "name": mount.name, "dest": mount.dest, "sources": sources, "readonly": readonly }),
        );
    }
    let plan = json!({
        "target": args.target,
        "argv": argv,
        "env": args.env.iter().cloned().collect::<BTreeMap<_, _>>(),
        "mounts": shown,
        "network": match args.network {
            ContainerNetwork::None => "none",
            ContainerNetwork::Host => "host",
        },
        "state_dir": args.state_dir.as_deref().map(absolute).transpose()?,
    });
    writeln!(std::io::stdout(), "{plan}")?;
    Ok(())
}

/// Finds what is wrong with host paths before anything is built for them. Those that are still to be made may be missing.
pub fn check_mounts(
    session: &Session,
    project: &Project,
    job: &Job,
    mounts: &[JobMount],
    to_be_made: impl Fn(&Path) -> bool,
) -> Result<(), CliError> {
    for (name, _) in job.sources.iter().filter(|(_, sources)| !sources.is_empty()) {
        if !mounts.iter().any(|it| it.name == *name) {
            session.ui.warning(&format!("{} has no mount `{name}`: its source is not used", job.name));
        }
    }
    for mount in mounts {
        if let Some(path) = mount.host.as_ref().filter(|path| !to_be_made(&project.output(path))) {
            check_source(mount, &absolute(&project.output(path))?)?;
            if !mount.readonly {
                project.check_writable(path)?;
            }
        }
    }
    Ok(())
}

fn check_source(mount: &JobMount, path: &Path) -> Result<(), CliError> {
    let wrong = |why: &str, hint: Option<&str>| {
        let message = format!("mount `{}`: {} {why}", mount.name, path.display());
        Err(CliError::Named { message, hint: hint.map(str::to_owned) })
    };
    match std::fs::metadata(path) {
        Ok(meta) if mount.kind == MountKind::File && meta.is_dir() => {
            wrong("is a directory", Some("a mount with --file takes a file"))
        }
        Ok(_) => Ok(()),
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            wrong(&format!("cannot be used: {err}"), None)
        }
        Err(_) if path.symlink_metadata().is_ok() => wrong("is a link to nowhere", None),
        Err(_) if mount.readonly => {
            wrong("does not exist", Some("only what can be written to is made if it is missing"))
        }
        Err(_) if path.parent().is_some_and(Path::is_dir) => Ok(()),
        Err(_) => wrong("does not exist, nor does its directory", Some("make the directory first")),
    }
}

/// Runs a container with raptor's own standard streams.
pub fn execute(
    session: &Session,
    project: &Project,
    store: &Store,
    realization: &Realization,
    container: Container<'_>,
) -> Result<Ended, CliError> {
    let mut mounts = Vec::new();
    for mount in container.mounts {
        host_mount(project, realization, mount, &mut mounts)?;
    }
    mounts.extend(kvm().filter(|it| container.mounts.iter().all(|mount| mount.dest != it.dest)));
    // In whatever order they are written, one must not cover another that lies in it.
    mounts.sort_by_key(|it| Path::new(&it.dest).components().count());
    let lower = trees(realization, container.stack);
    let work = store.work_dir()?;
    let mut state = container.state;
    let (dir, capture) = match &mut state {
        Some(state) => {
            state.accept(container.target, &lower, container.stale)?;
            (state.path().to_path_buf(), Capture::Keep)
        }
        None => {
            let dir = work.path().join("sandbox");
            fs_err::create_dir(&dir)?;
            (dir, Capture::Discard)
        }
    };
    let request = Request {
        trees: store.trees(),
        work: dir.clone(),
        lower,
        capture,
        keep: Vec::new(),
        mounts,
        run_files: BTreeMap::new(),
        passing_files: BTreeMap::new(),
        forbidden: Vec::new(),
        steps: Vec::new(),
        network: container.network,
        epoch: container.stack.last().map_or(crate::eval::DEFAULT_EPOCH, |it| it.epoch),
        limits: session.limits(),
        checkpoints: None,
    };
    let (argv, env) = (container.argv.to_vec(), container.env.clone());
    let interaction = InteractRequest { request, argv, env, cwd: "/".to_owned() };
    let result = interact(session, interaction, state.as_ref());
    if capture == Capture::Discard {
        sandbox::remove(&Launcher::current(), &dir)?;
    }
    result
}

/// Runs a program with raptor's own standard streams, signals and, unless it has another, `TERM`.
pub fn interact(
    session: &Session,
    mut interaction: InteractRequest,
    state: Option<&StateDir>,
) -> Result<Ended, CliError> {
    if let Ok(term) = std::env::var("TERM") {
        interaction.env.entry("TERM".to_owned()).or_insert(term);
    }
    let passing = session.signals.pass()?;
    let held = state.map(StateDir::lock);
    let caller = Caller { signals: Some(passing.received()), held, ..Caller::default() };
    let result = sandbox::interact(&Launcher::current(), &interaction, &caller, &session.cancel, &mut |_| {});
    if let Err(sandbox::Error::Cancelled) = result {
        session.cancel.store(true, Ordering::Relaxed);
    }
    let Report { status, .. } = result.map_err(|err| match (&err, interaction.request.network) {
        (sandbox::Error::Setup(why), Network::None) if why.contains("namespaces") => CliError::Named {
            message: err.to_string(),
            hint: Some("if it is the network namespace, --network host needs none".to_owned()),
        },
        _ => err.into(),
    })?;
    Ok(Ended { status, asked: passing.asked_to_end() })
}

/// The mount that lets programs run machines, if the host can.
pub fn kvm() -> Option<Mount> {
    let source = MountSource::Device(KVM.into());
    Path::new(KVM).exists().then(|| Mount { dest: KVM.to_owned(), source })
}

/// Trees of a stack, bottom first.
pub fn trees(realization: &Realization, stack: &Stack) -> Vec<String> {
    let top = stack.last().and_then(|it| realization.outputs.get(&it.id));
    top.iter().flat_map(|it| &it.0).map(TreeHash::to_string).collect()
}

fn host_mount(
    project: &Project,
    realization: &Realization,
    mount: &JobMount,
    mounts: &mut Vec<Mount>,
) -> Result<(), CliError> {
    let dest = mount.dest.clone();
    match mount.kind {
        MountKind::Simple | MountKind::File => {
            let Some(path) = &mount.host else { return Ok(()) };
            let path = absolute(&project.output(path))?;
            check_source(mount, &path)?;
            make_source(mount.kind, &path)?;
            mounts.push(Mount { dest, source: MountSource::Host { path, readonly: mount.readonly } });
        }
        MountKind::Overlay => {
            let lower = mount.targets.first().map(|(_, stack)| trees(realization, stack)).unwrap_or_default();
            mounts.push(Mount { dest, source: MountSource::Overlay(lower) });
        }
        MountKind::Layers => {
            let targets: Vec<schedule::LayersMount> = mount
                .targets
                .iter()
                .map(|(text, stack)| {
                    let layers = stack.iter().filter_map(|it| {
                        let tree = realization.outputs.get(&it.id)?.0.last()?;
                        Some((schedule::layer_entry_name(&it.name, tree), *tree))
                    });
                    (text.clone(), layers.collect())
                })
                .collect();
            schedule::layers_mount(&dest, &targets, mounts);
        }
    }
    Ok(())
}

/// Makes the source of a mount if it is missing, like the older raptor: one level only.
fn make_source(kind: MountKind, path: &Path) -> Result<(), CliError> {
    if path.exists() {
        return Ok(());
    }
    match kind {
        MountKind::File => fs_err::write(path, b"")?,
        _ => fs_err::create_dir(path)?,
    }
    Ok(())
}

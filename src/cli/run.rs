//! `raptor run`: a container of a target, on the host's files and network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use raptor_lang::program::ModuleId;
use raptor_lang::stmt::MountKind;

use super::args::Run;
use super::errors::CliError;
use super::project::Project;
use super::session::{Session, absolute};
use crate::derivation::DrvId;
use crate::eval::{Job, JobMount, Stack};
use crate::sandbox::{self, Capture, InteractRequest, Launcher, Mount, MountSource, Network, Request};
use crate::schedule::{self, Realization};
use crate::store::Store;
use crate::tree::TreeHash;

/// A container to run.
pub struct Container<'a> {
    pub stack: &'a Stack,
    pub argv: &'a [String],
    pub mounts: &'a [JobMount],
    pub env: &'a BTreeMap<String, String>,
    pub state_dir: Option<PathBuf>,
}

pub fn main(session: &Session, args: &Run) -> Result<ExitCode, CliError> {
    let project = Project::open(session, std::slice::from_ref(&args.target))?;
    let job = job(&project, args)?;
    let (evaluated, (stack, argv, mounts)) =
        project.evaluate(session, |evaluator| evaluator.host_job(&job))?;
    let goals = goals(&stack, &mounts);
    if session.global.no_act {
        session.ui.info(&format!("would run {}", argv.join(" ")));
        return Ok(ExitCode::SUCCESS);
    }
    let (store, realization) = session.realize(&project, &evaluated, &goals)?;
    let container = Container {
        stack: &stack,
        argv: &argv,
        mounts: &mounts,
        env: &job.env,
        state_dir: args.state_dir.clone(),
    };
    let status = execute(session, &project, &store, &realization, &container)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

fn job(project: &Project, args: &Run) -> Result<Job, CliError> {
    let mut sources: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let named = args.mount.chunks(2).filter_map(|it| Some((it.first()?.as_str(), it.get(1)?)));
    let short = [("cache", &args.cache), ("input", &args.input)];
    let short = short.into_iter().flat_map(|(name, values)| values.iter().map(move |it| (name, it)));
    for (name, source) in named.chain(short).chain(args.output.iter().map(|it| ("output", it))) {
        sources.entry(name.to_owned()).or_default().push(project.job_input(source));
    }
    let env = args.env.iter().map(|it| match it.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (it.clone(), String::new()),
    });
    Ok(Job {
        name: args.target.clone(),
        target: ModuleId { with: args.with.parameters(), ..project.module(&args.target)? },
        sources,
        entrypoint: None,
        args: (!args.args.is_empty()).then(|| args.args.clone()),
        env: env.collect(),
        stateful: true,
    })
}

/// Everything that must be realized before a container can run.
pub fn goals(stack: &Stack, mounts: &[JobMount]) -> Vec<DrvId> {
    let inputs = mounts.iter().flat_map(|it| &it.targets).flat_map(|(_, stack)| stack.last());
    stack.last().into_iter().chain(inputs).map(|it| it.id).collect()
}

/// Runs a container with raptor's own standard streams; gives its status.
pub fn execute(
    session: &Session,
    project: &Project,
    store: &Store,
    realization: &Realization,
    container: &Container<'_>,
) -> Result<i32, CliError> {
    let mut mounts = Vec::new();
    for mount in container.mounts {
        host_mount(project, realization, mount, &mut mounts)?;
    }
    let work = store.work_dir()?;
    let (dir, capture) = match &container.state_dir {
        Some(dir) => {
            fs_err::create_dir_all(dir)?;
            (absolute(dir)?, Capture::Keep)
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
        lower: trees(realization, container.stack),
        capture,
        mounts,
        run_files: BTreeMap::new(),
        steps: Vec::new(),
        network: Network::Host,
        epoch: container.stack.last().map_or(crate::eval::DEFAULT_EPOCH, |it| it.epoch),
    };
    let mut env = container.env.clone();
    if let Ok(term) = std::env::var("TERM") {
        env.entry("TERM".to_owned()).or_insert(term);
    }
    let interaction = InteractRequest { request, argv: container.argv.to_vec(), env, cwd: "/".to_owned() };
    let launcher = Launcher::current();
    let outcome = sandbox::interact(&launcher, &interaction, None, &session.cancel, &mut |_| {});
    if capture == Capture::Discard {
        sandbox::remove(&launcher, &dir)?;
    }
    Ok(outcome?.status)
}

/// Trees of a stack, bottom first.
fn trees(realization: &Realization, stack: &Stack) -> Vec<String> {
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

//! Machines in the QEMU of the standard library.
//!
//! It is a container like those of `raptor run`. It is no part of anybody's project: what it was built from is locked
//! in the store.

use std::collections::BTreeMap;

use super::Files;
use super::host::End;
use super::machine::{Machine, Places};
use crate::cli::errors::CliError;
use crate::cli::project::Project;
use crate::cli::run;
use crate::cli::session::{KeptGoal, Session};
use crate::eval::Job;
use crate::sandbox::{
    self, Caller, Capture, InteractRequest, Launcher, Limit, Mount, MountSource, Network, Report, Request,
    StepFailure,
};
use crate::store::Store;

const MODULE: &str = "$std.lib.vm";

/// The container, built.
pub struct Tools {
    store: Store,
    trees: Vec<String>,
    epoch: i64,
}

/// Where the container has what a machine needs.
pub fn places(machine: &Machine) -> Places {
    Places {
        qemu: "/usr/bin/qemu-system-x86_64".to_owned(),
        uefi: ("/usr/share/OVMF/OVMF_CODE_4M.fd".to_owned(), "/usr/share/OVMF/OVMF_VARS_4M.fd".to_owned()),
        drives: (0..machine.drives.len()).map(drive_path).collect(),
    }
}

fn drive_path(idx: usize) -> String {
    format!("/machine/drive{idx}")
}

/// Builds the container, unless it is there.
pub fn build(session: &Session) -> Result<Tools, CliError> {
    let project = Project::of_tools(session)?;
    let job = Job {
        name: MODULE.to_owned(),
        target: project.module(MODULE)?,
        sources: BTreeMap::new(),
        entrypoint: None,
        args: Some(Vec::new()),
        env: BTreeMap::new(),
        stateful: true,
    };
    let (evaluated, (stack, ..)) = project.evaluate(session, |evaluator| evaluator.host_job(&job))?;
    let goals = run::goals(&stack, &[]);
    let built = session.realize(&project, &evaluated, &goals)?;
    for id in goals {
        session.keep(&project, &evaluated, &built, &KeptGoal { target: MODULE, id, placed: None })?;
    }
    let (store, realization) = built;
    let epoch = stack.last().map_or(crate::eval::DEFAULT_EPOCH, |it| it.epoch);
    Ok(Tools { store, trees: run::trees(&realization, &stack), epoch })
}

/// Runs QEMU to its end.
pub fn run(
    session: &Session,
    tools: &Tools,
    machine: &Machine,
    files: &Files,
    caller: &Caller<'_>,
) -> Result<End, CliError> {
    let dir = files.scratch().join("sandbox");
    fs_err::create_dir(&dir)?;
    let request = Request {
        trees: tools.store.trees(),
        work: dir.clone(),
        lower: tools.trees.clone(),
        capture: Capture::Discard,
        keep: Vec::new(),
        mounts: mounts(machine),
        run_files: BTreeMap::new(),
        passing_files: BTreeMap::new(),
        forbidden: Vec::new(),
        steps: Vec::new(),
        network: Network::Host,
        epoch: tools.epoch,
        limits: session.limits(),
        checkpoints: None,
    };
    let argv = machine.argv(&places(machine));
    let interaction = InteractRequest { request, argv, env: BTreeMap::new(), cwd: "/".to_owned() };
    let result = sandbox::interact(&Launcher::current(), &interaction, caller, &session.cancel, &mut |_| {});
    sandbox::remove(&Launcher::current(), &dir)?;
    match result {
        Ok(Report { status, .. }) => Ok(End::Status(status)),
        Err(sandbox::Error::Cancelled) => Ok(End::Cancelled),
        Err(sandbox::Error::StepFailed { failure: StepFailure::Limit(Limit::StepTime(_)), .. }) => {
            Ok(End::TookTooLong)
        }
        Err(err) => Err(err.into()),
    }
}

fn mounts(machine: &Machine) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = machine
        .drives
        .iter()
        .enumerate()
        .map(|(idx, drive)| {
            let source = MountSource::Host { path: drive.path.clone(), readonly: !drive.kept };
            Mount { dest: drive_path(idx), source }
        })
        .collect();
    mounts.extend(machine.kvm.then(run::kvm).flatten());
    mounts
}

//! `raptor shell`: a look at the state in which a step failed.

use std::process::ExitCode;

use super::args::Shell;
use super::errors::CliError;
use super::project::Project;
use super::run;
use super::session::Session;
use crate::derivation::DrvId;
use crate::sandbox::{self, Launcher};
use crate::schedule;
use crate::store::Store;
use crate::tree::TreeHash;

/// Fewest digits of an id that name a state.
const SHORTEST: usize = 8;

pub fn main(session: &Session, args: &Shell) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let id = find(session, &store, args)?;
    let state = schedule::failed_state(&store, &id)?
        .ok_or_else(|| CliError::Other(format!("the state of {id} was kept by another version of raptor")))?;
    for tree in state.record.trees() {
        let known = tree.parse::<TreeHash>().ok().map(|it| store.info(&it)).transpose()?.flatten();
        if known.is_none() {
            return Err(CliError::Named {
                message: format!("the tree {tree}, on which the failed step ran, is no longer in the store"),
                hint: Some("build again with --keep-failed".to_owned()),
            });
        }
    }
    let it = &state.record;
    session.ui.info(&format!("{}: the state in which step {} failed: {}", it.name, it.number, it.text));
    let mut interaction = it.interaction(&store, &state.path, &args.argv, session.limits());
    let work = store.work_dir()?;
    let dir = work.path().join("sandbox");
    fs_err::create_dir(&dir)?;
    interaction.request.work.clone_from(&dir);
    sandbox::check_host()?;
    let result = run::interact(session, interaction, None);
    sandbox::remove(&Launcher::current(), &dir)?;
    Ok(ExitCode::from(u8::try_from(result?.status).unwrap_or(1)))
}

/// The derivation that is meant: by the beginning of its id, or what failed last of all that a target needs.
fn find(session: &Session, store: &Store, args: &Shell) -> Result<DrvId, CliError> {
    let states = store.failed_names()?;
    let kept: Vec<DrvId> = states.iter().filter_map(|name| name.parse().ok()).collect();
    if args.target.len() >= SHORTEST {
        let named: Vec<&DrvId> = kept.iter().filter(|id| id.to_string().starts_with(&args.target)).collect();
        match named.as_slice() {
            [] => {}
            [id] => return Ok(**id),
            more => {
                let (n, target) = (more.len(), &args.target);
                return Err(CliError::Other(format!(
                    "{n} failed states have an id that begins with {target}"
                )));
            }
        }
    }
    let none = || CliError::Named {
        message: format!("no state of a failed step of {} is kept", args.target),
        hint: Some("raptor build --keep-failed keeps it".to_owned()),
    };
    if args.target.parse::<DrvId>().is_ok() {
        return Err(none());
    }
    let targets = std::slice::from_ref(&args.target);
    let project = Project::open(session, targets)?;
    let (evaluated, ids) = project.derivations(session, targets, &args.with.parameters())?;
    let closure = evaluated.evaluator.closure(&ids);
    kept.into_iter().find(|id| closure.contains(id)).ok_or_else(none)
}

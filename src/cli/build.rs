//! `raptor build`: the layers of targets.

use std::process::ExitCode;

use super::args::Targets;
use super::errors::CliError;
use super::project::Project;
use super::realize::{print_results, would_realize};
use super::session::{KeptGoal, Session};

pub fn main(session: &Session, args: &Targets) -> Result<ExitCode, CliError> {
    let project = Project::open(session, &args.targets)?;
    let (evaluated, ids) = project.derivations(session, &args.targets, &args.with.parameters())?;
    if session.global.no_act {
        return Ok(would_realize(session, &evaluated, &ids));
    }
    let built = session.realize(&project, &evaluated, &ids)?;
    for (target, id) in args.targets.iter().zip(&ids) {
        session.keep(&project, &evaluated, &built, &KeptGoal { target, id: *id, placed: None })?;
    }
    let (store, realization) = built;
    if args.json {
        print_results(&args.targets, &ids, &realization, &store, true)?;
    }
    Ok(ExitCode::SUCCESS)
}

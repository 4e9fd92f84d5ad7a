//! `raptor log`: what the steps of a target printed when it was last built.

use std::io::Write;
use std::process::ExitCode;

use super::args::Log;
use super::errors::CliError;
use super::project::Project;
use super::session::Session;
use crate::derivation::DrvId;
use crate::schedule;

pub fn main(session: &Session, args: &Log) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let mut names = Vec::new();
    if args.target.parse::<DrvId>().is_ok() {
        names.push(args.target.clone());
    } else {
        let targets = std::slice::from_ref(&args.target);
        let project = Project::open(session, targets)?;
        let (evaluated, ids) = project.derivations(session, targets, &args.with.parameters())?;
        let order = evaluated.evaluator.closure(&ids);
        for id in &ids {
            names.push(id.to_string());
            let key = schedule::key_of(&store, &evaluated.evaluator.derivations, &order, id)?;
            names.extend(key.map(|it| it.to_string()));
        }
    }
    for name in &names {
        if let Some(text) = schedule::read_log(&store, name)? {
            std::io::stdout().write_all(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(CliError::Other(format!("{} was never built here", args.target)))
}

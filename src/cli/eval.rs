//! `raptor eval`: the derivation of a target.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use super::args::Eval;
use super::errors::CliError;
use super::project::Project;
use super::session::Session;

pub fn main(session: &Session, args: &Eval) -> Result<ExitCode, CliError> {
    let targets = std::slice::from_ref(&args.target);
    let project = Project::open(session, targets)?;
    let (evaluated, ids) = project.derivations(session, targets)?;
    let wanted = if args.closure { evaluated.evaluator.closure(&ids) } else { ids };
    let shown: BTreeMap<_, _> = wanted
        .iter()
        .filter_map(|id| evaluated.evaluator.derivations.get(id).map(|it| (id.to_string(), it)))
        .collect();
    let text = match args.json {
        true => serde_json::to_string(&shown),
        false => serde_json::to_string_pretty(&shown),
    };
    writeln!(std::io::stdout(), "{}", text.map_err(std::io::Error::from)?)?;
    Ok(ExitCode::SUCCESS)
}

//! `raptor eval`: the derivation of a target.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use raptor_lang::diag::in_order;
use raptor_lang::program::describe;

use super::args::Eval;
use super::errors::CliError;
use super::memo::{Memo, Outcome};
use super::project::{Project, log_message, report};
use super::session::Session;
use crate::eval::Evaluator;

pub fn main(session: &Session, args: &Eval) -> Result<ExitCode, CliError> {
    let targets = std::slice::from_ref(&args.target);
    let project = Project::open(session, targets)?;
    let flags = format!("closure={} json={}", args.closure, args.json);
    let memo = Memo::new(&project, &["eval", &flags, &describe(&args.with.parameters()), &args.target]);
    let output = match memo.recall(&project.files) {
        Some(outcome) => {
            outcome.log.iter().for_each(|message| log_message(session, message));
            report(session, &outcome.diagnostics, &outcome.sources);
            outcome.output
        }
        None => {
            let outcome = evaluate(session, &project, args)?;
            // What the lock was when this began is part of the record's name.
            if !project.lock_changed() {
                memo.keep(&project.files, &outcome);
            }
            outcome.output
        }
    };
    writeln!(std::io::stdout(), "{output}")?;
    Ok(ExitCode::SUCCESS)
}

fn evaluate(session: &Session, project: &Project, args: &Eval) -> Result<Outcome, CliError> {
    let targets = std::slice::from_ref(&args.target);
    let (evaluated, ids) = project.derivations(session, targets, &args.with.parameters())?;
    let evaluator = evaluated.evaluator;
    let wanted = if args.closure { evaluator.closure(&ids) } else { ids };
    let shown: BTreeMap<_, _> =
        wanted.iter().filter_map(|id| evaluator.derivations.get(id).map(|it| (id.to_string(), it))).collect();
    let text = match args.json {
        true => serde_json::to_string(&shown),
        false => serde_json::to_string_pretty(&shown),
    };
    let output = text.map_err(std::io::Error::from)?;
    let Evaluator { sources, diagnostics, log, .. } = evaluator;
    Ok(Outcome { sources, diagnostics: in_order(diagnostics), log, output })
}

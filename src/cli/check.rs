//! `raptor check`: errors of targets and of everything they name, without building, network or store.

mod jobs;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use raptor_lang::diag::{Severity, in_order};
use raptor_lang::program::{ModuleId, describe};
use serde_json::json;

use super::args::Check;
use super::diagnostics::count;
use super::errors::CliError;
use super::links;
use super::memo::{Memo, Outcome};
use super::project::{MANIFEST, Project, report};
use super::session::Session;
use crate::eval::Evaluator;

pub fn main(session: &Session, args: &Check) -> Result<ExitCode, CliError> {
    let project = Project::find(session, &args.targets)?;
    let parameters = describe(&args.with.parameters());
    let command: Vec<&str> =
        ["check", &parameters].into_iter().chain(args.targets.iter().map(String::as_str)).collect();
    let memo = Memo::new(&project, &command);
    let (outcome, unknown) = match memo.recall(&project.files) {
        Some(outcome) => (outcome, None),
        None => {
            let (outcome, unknown) = evaluate(session, &project, args)?;
            // What is no module is told beside the problems, and so not remembered.
            if unknown.is_none() {
                memo.keep(&project.files, &outcome);
            }
            (outcome, unknown)
        }
    };
    let Outcome { sources, diagnostics: problems, .. } = &outcome;
    if args.json {
        let mut printer = session.ui.printer(sources);
        let shown: Vec<_> = problems.iter().map(|it| printer.json(it)).collect();
        writeln!(std::io::stdout(), "{}", json!({ "diagnostics": shown }))?;
    } else {
        report(session, problems, sources);
    }
    if let Some(error) = unknown {
        return Err(error);
    }
    if problems.iter().any(|it| it.severity() == Severity::Error) {
        return Err(CliError::Diagnosed(count(problems)));
    }
    session.ui.info(&match problems.is_empty() {
        true => "No errors detected.".to_owned(),
        false => format!("No errors detected, {}.", count(problems)),
    });
    Ok(ExitCode::SUCCESS)
}

/// All problems, and the last of the names that mean no module.
fn evaluate(
    session: &Session,
    project: &Project,
    args: &Check,
) -> Result<(Outcome, Option<CliError>), CliError> {
    if links::failed(&project.problems) {
        let (sources, diagnostics) = (project.sources.clone(), in_order(project.problems.clone()));
        return Ok((Outcome { sources, diagnostics, ..Outcome::default() }, None));
    }
    // A base that no lock pins yet is no error here.
    let mut evaluator =
        Evaluator::new(&project.files, project.lock()).with_manifest(&project.manifest, &project.sources);
    evaluator.diagnostics.clone_from(&project.problems);
    let mut unknown = None;
    let mut modules = Vec::new();
    for name in &args.targets {
        match project.module(name) {
            Ok(module) => modules.push(ModuleId { with: args.with.parameters(), ..module }),
            Err(error) => {
                if let Some(earlier) = unknown.replace(error) {
                    earlier.report(&session.ui);
                }
            }
        }
    }
    evaluator.prepare(&modules);
    modules.iter().for_each(|module| follow(&mut evaluator, module));
    if args.targets.is_empty() {
        let names_any = !project.manifest.runs.is_empty()
            || project.manifest.groups.values().any(|group| !group.build.is_empty());
        if !names_any && !evaluator.has_errors() {
            return Err(CliError::Usage(format!(
                "name a target: there is no {MANIFEST} here that names any"
            )));
        }
        jobs::check(project, &mut evaluator);
    }
    let Evaluator { sources, diagnostics, log, .. } = evaluator;
    Ok((Outcome { sources, diagnostics: in_order(diagnostics), log, output: String::new() }, unknown))
}

/// Collects the problems of a module, of what it is built on, and of the builders of its mounts.
fn follow(evaluator: &mut Evaluator<'_>, module: &ModuleId) {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![module.clone()];
    while let Some(module) = waiting.pop() {
        // The reasons of a failure are among the evaluator's diagnostics.
        let _ = evaluator.layer(&module);
        if seen.insert(module.clone())
            && let Ok(program) = evaluator.program(&module)
        {
            waiting.extend(program.mounts.iter().filter_map(|it| it.value.each.clone()));
        }
    }
}

//! `raptor check`: errors of targets and of everything they name, without building.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use raptor_lang::diag::Severity;
use raptor_lang::program::ModuleId;
use serde_json::json;

use super::args::Check;
use super::diagnostics;
use super::errors::CliError;
use super::project::{MANIFEST, Project, report};
use super::session::Session;
use crate::eval::Evaluator;
use crate::lock::Lock;

pub fn main(session: &Session, args: &Check) -> Result<ExitCode, CliError> {
    let project = Project::open(session, &args.targets)?;
    let mut modules = BTreeSet::new();
    for name in &args.targets {
        modules.insert(project.module(name)?);
    }
    if args.targets.is_empty() {
        modules.extend(of_manifest(&project)?);
        if modules.is_empty() {
            return Err(CliError::Usage(format!(
                "name a target: there is no {MANIFEST} here that names any"
            )));
        }
    }
    // Checking asks nobody: a base that no lock pins yet is no error.
    let mut evaluator = Evaluator::new(&project.files, Lock::default());
    for module in &modules {
        let _ = evaluator.stack(module);
    }
    let errors = evaluator.diagnostics.iter().filter(|it| it.severity() == Severity::Error).count();
    if args.json {
        let problems: Vec<_> =
            evaluator.diagnostics.iter().map(|it| diagnostics::to_json(it, &evaluator.sources)).collect();
        writeln!(std::io::stdout(), "{}", json!({ "diagnostics": problems }))?;
    } else {
        report(session, &evaluator.diagnostics, &evaluator.sources);
    }
    match errors {
        0 => {
            session.ui.info("No errors detected.");
            Ok(ExitCode::SUCCESS)
        }
        1 => Err(CliError::Diagnosed("1 error".into())),
        n => Err(CliError::Diagnosed(format!("{n} errors"))),
    }
}

/// Every module that Raptor.toml names.
fn of_manifest(project: &Project) -> Result<Vec<ModuleId>, CliError> {
    let mut modules = Vec::new();
    for name in project.manifest.runs.keys() {
        let job = project.job(name)?;
        modules.extend(job.sources.get("input").into_iter().flatten().filter_map(|it| it.module.clone()));
        modules.push(job.target);
    }
    for group in project.manifest.groups.values() {
        for name in &group.build {
            modules.push(project.module(&name.value)?);
        }
    }
    Ok(modules)
}

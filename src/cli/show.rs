//! `raptor show`: what targets are built on.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::args::Targets;
use super::errors::CliError;
use super::project::Project;
use super::session::Session;

pub fn main(session: &Session, args: &Targets) -> Result<ExitCode, CliError> {
    let project = Project::open(session, &args.targets)?;
    let modules = project.modules(&args.targets, &args.with.parameters())?;
    let (_, stacks) = project.evaluate(session, |evaluator| {
        modules.iter().map(|module| evaluator.stack(module)).collect::<Result<Vec<_>, _>>()
    })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let stacks: Vec<_> = args
            .targets
            .iter()
            .zip(&stacks)
            .map(|(target, stack)| {
                let layers: Vec<_> =
                    stack.iter().map(|it| json!({ "name": it.name, "derivation": it.id })).collect();
                json!({ "target": target, "layers": layers })
            })
            .collect();
        writeln!(out, "{}", json!({ "targets": stacks }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (target, stack) in args.targets.iter().zip(&stacks) {
        writeln!(out, "{target}")?;
        for (depth, layer) in stack.iter().rev().skip(1).enumerate() {
            writeln!(out, "{}└─ {}", "   ".repeat(depth), layer.name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

//! `raptor show`: what targets are built on.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::args::Targets;
use super::errors::CliError;
use super::image;
use super::project::Project;
use super::session::Session;

pub fn main(session: &Session, args: &Targets) -> Result<ExitCode, CliError> {
    let project = Project::open(session, &args.targets)?;
    let modules = project.modules(&args.targets, &args.with.parameters())?;
    let (evaluated, stacks) = project.evaluate(session, |evaluator| {
        modules.iter().map(|module| evaluator.stack(module)).collect::<Result<Vec<_>, _>>()
    })?;
    let mut images = Vec::new();
    for stack in &stacks {
        images.push(match evaluated.evaluator.base_image(stack) {
            Some(base) => Some((base, image::settings(session, base)?)),
            None => None,
        });
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let stacks: Vec<_> = args
            .targets
            .iter()
            .zip(stacks.iter().zip(&images))
            .map(|(target, (stack, base))| {
                let layers: Vec<_> =
                    stack.iter().map(|it| json!({ "name": it.name, "derivation": it.id })).collect();
                let mut shown = json!({ "target": target, "layers": layers });
                if let (Some((base, settings)), Some(shown)) = (base, shown.as_object_mut()) {
                    shown.insert("image".to_owned(), image::json(base, settings.as_ref()));
                }
                shown
            })
            .collect();
        writeln!(out, "{}", json!({ "targets": stacks }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (target, (stack, base)) in args.targets.iter().zip(stacks.iter().zip(&images)) {
        writeln!(out, "{target}")?;
        for (depth, layer) in stack.iter().rev().skip(1).enumerate() {
            writeln!(out, "{}└─ {}", "   ".repeat(depth), layer.name)?;
        }
        let lines = base.iter().flat_map(|(base, settings)| image::lines(base, settings.as_ref()));
        for line in lines {
            writeln!(out, "{}{line}", "   ".repeat(stack.len()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

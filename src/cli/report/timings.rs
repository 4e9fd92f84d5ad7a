//! The timings page: one file that needs nothing else. What was measured is data in it; its script draws that.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::Report;
use crate::cli::errors::CliError;
use crate::cli::progress::{End, Trace, Work};
use crate::cli::session::absolute;
use crate::schedule::Task;

/// The page; [`DATA`] is where the data goes.
const PAGE: &str = include_str!("../timings.html");
const DATA: &str = "@DATA@";

/// Writes the page in one step.
pub fn write(trace: &Trace, report: &Report, file: &Path) -> Result<(), CliError> {
    let full = absolute(file)?;
    let named = |err: std::io::Error| {
        CliError::Io(std::io::Error::new(err.kind(), format!("cannot write {}: {err}", file.display())))
    };
    let dir = full.parent().unwrap_or(Path::new("/"));
    let mut temp = tempfile::Builder::new().prefix(".raptor-timings-").tempfile_in(dir).map_err(named)?;
    temp.write_all(page(&data(trace, report)).as_bytes()).map_err(named)?;
    temp.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(named)?;
    temp.persist(&full).map_err(|err| named(err.error))?;
    Ok(())
}

/// The page with its data. JSON in a script element ends at the first `</script`, and `<!--` changes what ends it:
/// no `<` of the data stands there as it is.
fn page(data: &Value) -> String {
    let text = data.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    PAGE.replacen(DATA, &text, 1)
}

fn data(trace: &Trace, report: &Report) -> Value {
    let tasks = || trace.plan.tasks().iter().zip(&trace.works);
    let worked = tasks().filter(|(_, work)| work.was_worked_on());
    let reused = tasks().filter(|(_, work)| work.end == Some(End::Reused));
    let reused =
        reused.map(|(task, work)| json!({ "name": task.name, "kind": task.kind, "millis": work.millis }));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "begun": crate::store::now().saturating_sub(report.millis / 1000),
        "jobs": trace.jobs,
        "planned": trace.planned,
        "end": trace.millis(),
        "report": report,
        "works": worked.map(|(task, work)| entry(task, work)).collect::<Vec<_>>(),
        "reused": reused.collect::<Vec<_>>(),
        "waiting": trace.works.iter().filter(|it| it.end.is_none()).count(),
    })
}

fn entry(task: &Task, work: &Work) -> Value {
    let end = work.begin.saturating_add(work.millis);
    let steps = work.steps.iter().map(|step| {
        // What did not succeed lasted until the end.
        let millis = step.millis.unwrap_or_else(|| end.saturating_sub(step.begin));
        json!({ "number": step.number, "text": step.text, "begin": step.begin, "millis": millis,
            "done": step.millis.is_some() })
    });
    let state = match work.end {
        Some(End::Failed) => "failed",
        Some(End::Built) => "built",
        _ => "interrupted",
    };
    json!({
        "id": task.id,
        "name": task.name,
        "kind": task.kind,
        "slot": work.slot,
        "begin": work.begin,
        "millis": work.millis,
        "state": state,
        "n_steps": work.n_steps,
        "steps": steps.collect::<Vec<_>>(),
        "bytes": work.bytes,
        "files": work.files,
        "expected": task.expected,
    })
}

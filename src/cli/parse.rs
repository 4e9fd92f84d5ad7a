//! `raptor parse`: the statements of one file, or its syntax tree.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use raptor_lang::diag::{Severity, in_order};
use raptor_lang::{program, syntax};

use super::args::Parse;
use super::errors::CliError;
use super::project::report;
use super::session::Session;

pub fn main(session: &Session, args: &Parse) -> Result<ExitCode, CliError> {
    let stdin = args.file == Path::new("-");
    let mut bytes = Vec::new();
    match stdin {
        true => std::io::stdin().read_to_end(&mut bytes).map(drop)?,
        false => bytes = fs_err::read(&args.file)?,
    }
    let name = if stdin { Path::new("<stdin>") } else { args.file.as_path() };
    let text = String::from_utf8(bytes).map_err(|err| {
        let at = err.utf8_error().valid_up_to();
        CliError::Other(format!("{}: not UTF-8 (first bad byte at offset {at})", name.display()))
    })?;
    let mut out = std::io::stdout().lock();
    if args.tree {
        let parse = syntax::parse(&text, syntax::Mode::Source);
        write!(out, "{}", syntax::dump(&parse.syntax()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (statements, problems, sources) = program::parse_file_statements(name, &text);
    let problems = in_order(problems);
    report(session, &problems, &sources);
    if problems.iter().any(|it| it.severity() == Severity::Error) {
        return Err(CliError::Diagnosed(format!("{} has errors", name.display())));
    }
    match args.json {
        true => writeln!(out, "{}", syntax::statements_json(&statements))?,
        false => {
            for it in &statements {
                let text = sources.text(it.span.file);
                writeln!(
                    out,
                    "{}",
                    text.get(it.span.start as usize..it.span.end as usize).unwrap_or_default()
                )?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

//! `raptor explain`: what a code stands for, with an example of the mistake and of how it is right.

use std::io::Write;
use std::process::ExitCode;

use raptor_lang::diag::Code;
use serde_json::{Value, json};

use super::args::Explain;
use super::errors::CliError;

pub fn main(args: &Explain) -> Result<ExitCode, CliError> {
    let mut out = std::io::stdout().lock();
    let Some(id) = &args.code else {
        if args.json {
            let codes: Vec<Value> = Code::ALL.iter().map(|code| summary(*code)).collect();
            writeln!(out, "{}", json!({ "codes": codes }))?;
            return Ok(ExitCode::SUCCESS);
        }
        for code in Code::ALL {
            writeln!(out, "{}  {}", code.id(), code.summary())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let code = Code::find(id).ok_or_else(|| {
        let hint = Code::nearest(id).map(|it| format!("; did you mean `{}`?", it.id()));
        let hint = hint.unwrap_or_else(|| "; `raptor explain` lists all codes".to_owned());
        CliError::Usage(format!("there is no code `{id}`{hint}"))
    })?;
    if args.json {
        let mut shown = summary(code);
        if let Value::Object(fields) = &mut shown {
            fields.insert("text".to_owned(), code.page().into());
        }
        writeln!(out, "{shown}")?;
        return Ok(ExitCode::SUCCESS);
    }
    write!(out, "# {}\n\n{}", code.id(), code.page())?;
    Ok(ExitCode::SUCCESS)
}

fn summary(code: Code) -> Value {
    json!({ "code": code.id(), "severity": code.severity(), "summary": code.summary() })
}

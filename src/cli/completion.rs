//! `raptor completion`: scripts for shells.

use std::process::ExitCode;

use clap::CommandFactory;

use super::args::{Cli, Completion};
use super::errors::CliError;

pub fn main(args: &Completion) -> Result<ExitCode, CliError> {
    clap_complete::generate(args.shell, &mut Cli::command(), "raptor", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

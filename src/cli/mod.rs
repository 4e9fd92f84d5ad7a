//! The command line: one file per command. stdout is data, stderr is talk.
//!
//! Exit codes: 0 done, 1 the build or check failed, 2 wrong usage, 130 interrupted; `run` gives the status of
//! what ran.

mod args;
mod diagnostics;
mod errors;
mod inputs;
mod memo;
mod pin;
mod progress;
mod project;
mod report;
mod session;
mod signals;
mod snippet;
mod state;
mod ui;
mod usage;

mod build;
mod check;
mod completion;
mod dump;
mod eval;
mod explain;
mod fmt;
mod image;
mod init;
mod links;
mod lock;
mod log;
mod make;
mod parse;
mod realize;
mod run;
mod shell;
mod show;
mod store;
mod update;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

use args::{Cli, Command};
pub use errors::CliError;

/// Runs one command; `argv` starts with the program's name.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let mut cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(err) => {
            usage::print(&err, &argv);
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    if let Command::Vm(_) = cli.command {
        // There `--memory` is what the machine has.
        cli.global.memory = None;
    }
    let ui = Arc::new(ui::Ui::new(&cli.global));
    let cancel = Arc::new(AtomicBool::new(false));
    let signals = match signals::Signals::watch(cancel.clone()) {
        Ok(signals) => signals,
        Err(err) => {
            ui.error(&format!("cannot watch for signals: {err}"));
            return ExitCode::FAILURE;
        }
    };
    let mut global = cli.global;
    // A step that is not done again asks for nothing anew.
    global.no_checkpoints |= matches!(cli.command, Command::Update(_));
    // Who only looks pins nothing, not even packages.
    global.no_act |= matches!(&cli.command, Command::Lock(lock) if lock.check);
    let session = session::Session::new(global, ui.clone(), cancel.clone(), signals);
    let timings = cli.command.timings().cloned();
    if let Err(err) = report::check_place(timings.as_ref().and_then(|it| it.timings.as_deref())) {
        err.report(&ui);
        return ExitCode::from(err.exit_code());
    }
    let result = match cli.command {
        Command::Build(args) => build::main(&session, &args.targets),
        Command::Check(args) => check::main(&session, &args),
        Command::Completion(args) => completion::main(&args),
        Command::Dump(args) => dump::main(&session, &args),
        Command::Eval(args) => eval::main(&session, &args),
        Command::Explain(args) => explain::main(&args),
        Command::Fmt(args) => fmt::main(&session, &args),
        Command::Init(args) => init::main(&session, &args),
        Command::Lock(args) => lock::main(&session, &args),
        Command::Log(args) => log::main(&session, &args),
        Command::Make(args) => make::main(&session, &args),
        Command::Parse(args) => parse::main(&session, &args),
        Command::Realize(args) => realize::main(&session, &args),
        Command::Run(args) => run::main(&session, &args),
        Command::Shell(args) => shell::main(&session, &args),
        Command::Show(args) => show::main(&session, &args),
        Command::Store(command) => store::main(&session, &command),
        Command::Update(args) => update::main(&session, &args),
        Command::Vm(args) => vm::main(&session, &args),
    };
    let (code, status) = match result {
        Ok(code) => (code, report::Status::Done),
        // Whoever reads our output has seen enough.
        Err(CliError::Io(err)) if err.kind() == std::io::ErrorKind::BrokenPipe => {
            (ExitCode::SUCCESS, report::Status::Done)
        }
        Err(_) if cancel.load(Ordering::Relaxed) => {
            ui.error("interrupted");
            (ExitCode::from(signals::INTERRUPTED), report::Status::Interrupted)
        }
        Err(err) => {
            err.report(&ui);
            (ExitCode::from(err.exit_code()), report::Status::Failed)
        }
    };
    let Some(timings) = timings else { return code };
    match report::finish(&session, status, timings.timings.as_deref()) {
        Ok(()) => code,
        Err(err) => {
            err.report(&ui);
            if status == report::Status::Done { ExitCode::FAILURE } else { code }
        }
    }
}

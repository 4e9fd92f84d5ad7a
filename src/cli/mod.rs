//! The command line: one file per command. stdout is data, stderr is talk.
//!
//! Exit codes: 0 done, 1 the build or check failed, 2 wrong usage, 130 interrupted; `run` gives the status of
//! what ran.

mod args;
mod diagnostics;
mod errors;
mod memo;
mod pin;
mod progress;
mod project;
mod report;
mod session;
mod snippet;
mod ui;
mod usage;

mod build;
mod check;
mod completion;
mod dump;
mod eval;
mod explain;
mod fmt;
mod log;
mod make;
mod parse;
mod realize;
mod run;
mod show;
mod store;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

use args::{Cli, Command};
pub use errors::CliError;

/// Status of an interrupted command, as shells report SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs one command; `argv` starts with the program's name.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(err) => {
            usage::print(&err, &argv);
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    let ui = Arc::new(ui::Ui::new(&cli.global));
    let cancel = Arc::new(AtomicBool::new(false));
    if let Err(err) = watch_signals(&cancel) {
        ui.error(&format!("cannot watch for signals: {err}"));
        return ExitCode::FAILURE;
    }
    let session = session::Session::new(cli.global, ui.clone(), cancel.clone());
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
        Command::Log(args) => log::main(&session, &args),
        Command::Make(args) => make::main(&session, &args),
        Command::Parse(args) => parse::main(&session, &args),
        Command::Realize(args) => realize::main(&session, &args),
        Command::Run(args) => run::main(&session, &args),
        Command::Show(args) => show::main(&session, &args),
        Command::Store(command) => store::main(&session, &command),
    };
    let (code, status) = match result {
        Ok(code) => (code, report::Status::Done),
        // Whoever reads our output has seen enough.
        Err(CliError::Io(err)) if err.kind() == std::io::ErrorKind::BrokenPipe => {
            (ExitCode::SUCCESS, report::Status::Done)
        }
        Err(_) if cancel.load(Ordering::Relaxed) => {
            ui.error("interrupted");
            (ExitCode::from(INTERRUPTED), report::Status::Interrupted)
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

/// The first SIGINT, SIGTERM or SIGHUP asks for an orderly end, the second does not wait for it.
fn watch_signals(cancel: &Arc<AtomicBool>) -> std::io::Result<()> {
    let ignored = ignored_signals();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        // `nohup` and shells that start us in the background mean it.
        if ignored & (1 << (signal - 1)) != 0 {
            continue;
        }
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), cancel.clone())?;
        signal_hook::flag::register(signal, cancel.clone())?;
    }
    Ok(())
}

/// Signals that this process was started to ignore, as a mask; see proc(5), `SigIgn`.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|it| u64::from_str_radix(it.trim(), 16).ok()).unwrap_or(0)
}

//! The `raptor` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The sandbox starts this same program again for its inner half.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "__sandbox") {
        std::process::exit(raptor::sandbox::entry());
    }
    raptor::cli::main(std::env::args_os().collect())
}

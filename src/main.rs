//! The `raptor` program.

fn main() {
    // A sandbox is this program again: nothing of the command line's world may run before it.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "__sandbox") {
        std::process::exit(raptor::sandbox::entry());
    }
}

//! Wrong usage, told before the options are known.

use std::ffi::OsString;

use clap::Error;
use clap::error::ErrorKind;
use serde_json::json;

/// Prints what clap has to say: help, the version, or what is wrong with the command line.
pub fn print(error: &Error, argv: &[OsString]) {
    if error.use_stderr() && wants_json(argv) {
        let text = error.render().to_string();
        let messages = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                vec![("error", "a command is missing".to_owned()), ("help", text.trim().to_owned())]
            }
            _ => messages(&text),
        };
        for (level, message) in messages {
            let line = json!({ "type": "message", "level": level, "message": message });
            // A closed stderr is no reason to fail.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
        }
        return;
    }
    // clap knows which stream it goes to. A closed stream is nobody's problem.
    let _ = error.print();
}

/// Whether the options that can be recognised ask for JSON.
fn wants_json(argv: &[OsString]) -> bool {
    let words: Vec<&str> = argv.iter().map_while(|it| it.to_str().filter(|it| *it != "--")).collect();
    let pairs = words.windows(2).any(|pair| pair == ["--message-format", "json"]);
    pairs || words.contains(&"--message-format=json")
}

/// The paragraphs of clap's text: the first says what is wrong, the others what to do about it.
fn messages(text: &str) -> Vec<(&'static str, String)> {
    let mut messages: Vec<(&'static str, String)> = Vec::new();
    for paragraph in text.trim().split("\n\n") {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        let text = lines.join("\n");
        let level = if messages.is_empty() { "error" } else { "help" };
        if text.starts_with("For more information") || text.is_empty() {
            continue;
        }
        let text = text.strip_prefix("error: ").or(text.strip_prefix("tip: ")).unwrap_or(&text);
        messages.push((level, text.to_owned()));
    }
    messages
}

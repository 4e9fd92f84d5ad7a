//! `raptor dump`: what a target says once templates and INCLUDEs are expanded.

use std::io::Write;
use std::process::ExitCode;

use raptor_lang::program::{ActionKind, Base, Program};
use raptor_lang::stmt::{Digest, FileOpts, MountKind};

use super::args::Dump;
use super::errors::CliError;
use super::project::Project;
use super::session::Session;
use crate::eval::layer_name;

pub fn main(session: &Session, args: &Dump) -> Result<ExitCode, CliError> {
    let project = Project::open(session, &args.targets)?;
    let modules = project.modules(&args.targets, &args.with.parameters())?;
    let (_, programs) = project.evaluate(session, |evaluator| {
        modules.iter().map(|module| evaluator.program(module)).collect::<Result<Vec<_>, _>>()
    })?;
    let mut out = std::io::stdout().lock();
    for program in programs {
        writeln!(out, "{}", text(&program))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The program as a flat `.rapt` file.
fn text(program: &Program) -> String {
    let mut lines = Vec::new();
    if let Some(from) = &program.from {
        lines.push(match &from.value {
            Base::Docker(reference) => format!("FROM docker://{reference}"),
            Base::Debian(reference) => format!("FROM debian://{reference}"),
            Base::Image(image) => format!("FROM {image}"),
            Base::Module(module) => format!("FROM $.{}", layer_name(module).replace('/', ".")),
        });
    }
    for action in &program.actions {
        lines.push(action_line(&action.kind));
    }
    for mount in &program.mounts {
        let it = &mount.value.mount;
        let kind = match it.kind {
            MountKind::Simple => "--simple",
            MountKind::File => "--file",
            MountKind::Layers => "--layers",
            MountKind::Overlay => "--overlay",
        };
        let each = it.each.as_ref().map(|each| format!(" --each {}", each.value)).unwrap_or_default();
        let readonly = if it.readonly { " --readonly" } else { "" };
        let optional = if it.optional { " --optional" } else { "" };
        lines.push(format!(
            "MOUNT {kind}{each}{readonly}{optional} {} {}",
            it.name.value,
            quote(&it.path.value)
        ));
    }
    for (name, argv) in [("ENTRYPOINT", &program.entrypoint), ("CMD", &program.cmd)] {
        if let Some(argv) = argv {
            lines.push(format!("{name} {}", quote_all(&argv.value)));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn action_line(action: &ActionKind) -> String {
    match action {
        ActionKind::Run(argv) => format!("RUN {}", quote_all(argv)),
        ActionKind::Env(vars) => {
            let vars: Vec<_> = vars.iter().map(|(key, value)| format!("{key}={}", quote(value))).collect();
            format!("ENV {}", vars.join(" "))
        }
        ActionKind::Workdir(path) => format!("WORKDIR {}", quote(path)),
        ActionKind::Write { text, path, opts } => {
            format!("WRITE {}{} {}", options(opts), string(text), quote(path))
        }
        ActionKind::Mkdir { path, parents, opts } => {
            format!("MKDIR {}{}{}", options(opts), if *parents { "-p " } else { "" }, quote(path))
        }
        ActionKind::Copy { sources, dest, exclude, opts } => {
            let sources: Vec<_> = sources.iter().map(|it| quote(&it.value.to_string_lossy())).collect();
            let exclude: String = exclude.texts().map(|it| format!("--exclude {} ", string(it))).collect();
            format!("COPY {}{exclude}{} {}", options(opts), sources.join(" "), quote(dest))
        }
        ActionKind::Fetch { url, dest, digest, opts, .. } => {
            let digest = match digest {
                Some(Digest::Sha256(hex)) => format!("--sha256 {hex} "),
                Some(Digest::Blake3(hex)) => format!("--blake3 {hex} "),
                None => String::new(),
            };
            format!("FETCH {}{digest}{} {}", options(opts), quote(&url.value), quote(dest))
        }
        ActionKind::Keep(paths) => {
            let paths: Vec<_> = paths.iter().map(|it| quote(&it.value)).collect();
            format!("KEEP {}", paths.join(" "))
        }
    }
}

fn options(opts: &FileOpts) -> String {
    let mut out = String::new();
    if let Some(mode) = opts.chmod {
        out.push_str(&format!("--chmod {mode:04o} "));
    }
    if let Some(chown) = &opts.chown {
        let part = |it: &Option<String>| it.as_deref().map(quote).unwrap_or_default();
        let group = chown.group.as_deref().map(|group| format!(":{}", quote(group))).unwrap_or_default();
        out.push_str(&format!("--chown {}{group} ", part(&chown.user)));
    }
    out
}

fn quote_all(words: &[String]) -> String {
    words.iter().map(|it| quote(it)).collect::<Vec<_>>().join(" ")
}

/// A word as it can be written in a `.rapt` file.
fn quote(word: &str) -> String {
    let plain =
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_=/,.+-:@".contains(c));
    if plain { word.to_owned() } else { string(word) }
}

fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

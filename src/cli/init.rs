//! `raptor init`: a small project to begin with.
//!
//! Each template is a directory of plain files below `src/cli/templates`; the tests build them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueHint};
use fs_err as fs;
use include_dir::{Dir, include_dir};
use serde_json::{Value, json};

use super::errors::CliError;
use super::session::Session;

static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/cli/templates");

/// What is told of a template. Its files are in the directory of its name.
struct Template {
    name: &'static str,
    about: &'static str,
    /// Commands that come next, and what they do.
    next: &'static [(&'static str, &'static str)],
}

/// The first is the usual one.
const KNOWN: [Template; 3] = [
    Template {
        name: "live",
        about: "a Debian that starts from a CD or a USB stick",
        next: &[
            ("raptor make iso", "builds live.iso"),
            ("raptor vm iso", "starts it in a machine; the user is root, without a password"),
        ],
    },
    Template {
        name: "disk",
        about: "a Debian on a disk, for a virtual machine or a computer",
        next: &[
            ("raptor make disk", "builds server.img"),
            ("raptor vm disk", "starts it in a machine; the user is root, without a password"),
        ],
    },
    Template {
        name: "container",
        about: "a program in a small Debian, to run as a container",
        next: &[
            ("raptor run hello", "runs it"),
            ("raptor run hello you", "runs it with an argument"),
            ("raptor make image", "makes hello.tar of it, for docker and podman"),
        ],
    },
];

/// Name of the file that is `.gitignore` in a project, and would be one for this repository as well.
const GITIGNORE: &str = "gitignore";

#[derive(Debug, Args)]
pub struct Init {
    /// Where; it is made if it is missing
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// What kind of project [default: live]
    #[arg(short, long, value_name = "NAME")]
    pub template: Option<String>,
    /// List the templates instead
    #[arg(long, conflicts_with = "template")]
    pub list: bool,
    /// With --list: print them as JSON
    #[arg(long, requires = "list")]
    pub json: bool,
}

pub fn main(session: &Session, args: &Init) -> Result<ExitCode, CliError> {
    if args.list {
        return list(args.json);
    }
    let template = find(args.template.as_deref())?;
    let files = files(template);
    let there: Vec<&str> = files
        .iter()
        .filter(|(name, _)| args.dir.join(name).symlink_metadata().is_ok())
        .map(|(name, _)| *name)
        .collect();
    if !there.is_empty() {
        return Err(CliError::Named {
            message: format!("{} has these files already: {}", args.dir.display(), there.join(", ")),
            hint: Some("choose another directory: raptor init DIR".to_owned()),
        });
    }
    if session.global.no_act {
        files
            .iter()
            .for_each(|(name, _)| session.ui.info(&format!("would write {}", args.dir.join(name).display())));
        return Ok(ExitCode::SUCCESS);
    }
    fs::create_dir_all(&args.dir)?;
    let mut written = Vec::new();
    for (name, content) in files {
        let path = args.dir.join(name);
        if let Err(err) = write_new(&path, content, &mut written) {
            // Half a project is none, and would be in the way next time.
            written.iter().for_each(|path| drop(fs::remove_file(path)));
            return Err(err.into());
        }
    }
    tell(session, template, &args.dir);
    Ok(ExitCode::SUCCESS)
}

fn list(as_json: bool) -> Result<ExitCode, CliError> {
    let mut out = std::io::stdout().lock();
    if as_json {
        let known: Vec<Value> =
            KNOWN.iter().map(|it| json!({ "name": it.name, "about": it.about })).collect();
        writeln!(out, "{}", json!({ "templates": known }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for Template { name, about, .. } in &KNOWN {
        writeln!(out, "{name:12} {about}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: Option<&str>) -> Result<&'static Template, CliError> {
    let found = KNOWN.iter().find(|it| name.is_none_or(|name| it.name == name));
    found.ok_or_else(|| {
        let known: Vec<&str> = KNOWN.iter().map(|it| it.name).collect();
        let name = name.unwrap_or_default();
        CliError::Usage(format!("there is no template `{name}`; known are: {}", known.join(", ")))
    })
}

/// Files of a template by the names that they have in a project.
fn files(template: &Template) -> Vec<(&'static str, &'static [u8])> {
    let entries = TEMPLATES.get_dir(template.name).map(Dir::files);
    let files = entries.into_iter().flatten().filter_map(|file| {
        let name = file.path().file_name()?.to_str()?;
        Some((if name == GITIGNORE { ".gitignore" } else { name }, file.contents()))
    });
    let mut files: Vec<_> = files.collect();
    files.sort_unstable();
    files
}

fn write_new(path: &Path, content: &[u8], written: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    written.push(path.to_owned());
    file.write_all(content)
}

fn tell(session: &Session, template: &Template, dir: &Path) {
    session.ui.info(&format!("wrote {} into {}; next:", template.about, dir.display()));
    if dir != Path::new(".") {
        session.ui.info(&format!("    cd {}", dir.display()));
    }
    for (command, about) in template.next {
        session.ui.info(&format!("    {command:24} # {about}"));
    }
}

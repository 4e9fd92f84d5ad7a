//! `raptor store`: looking into the store, and looking after it.
//!
//! Trees of an ordinary user hold files of other ids. Commands that read or write such files run this program again
//! where these ids are its own.

mod keep;
mod list;
mod look;
mod mend;
pub mod name;
mod transfer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueHint};

use super::errors::CliError;
use super::session::{Session, absolute};
use crate::sandbox::{self, Launcher};

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List trees: hash, size, last use, what they are
    Ls(Json),
    /// Print all that is known of trees
    Info(Trees),
    /// Print the store paths of trees
    Path(Trees),
    /// List the files of a tree, with mode, owner, size and time
    Tree(Tree),
    /// Print a file of a tree
    Cat(Cat),
    /// Print what differs between two trees; exit status 1 if anything does
    Diff(Diff),
    /// Print what trees take on disk: alone, and together with others
    Du(Json),
    /// Remove what no result and no running build needs
    Gc(Gc),
    /// Hash everything again, and take bad trees out of use; exit status 1 if anything is bad
    Verify(Json),
    /// Verify, and make or fetch again what is bad; exit status 1 if something is lost
    Repair(Json),
    /// Write trees, with what they were built from, as one archive
    Export(Export),
    /// Read an archive into the store
    Import(Import),
    /// Let equal files share their space
    Optimise(Json),
}

#[derive(Debug, Args)]
pub struct Json {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Trees {
    /// Hashes, at least their first 8 digits, store paths, derivation ids, modules or jobs
    #[arg(required = true, value_name = "TREE")]
    pub trees: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Tree {
    /// Hash, store path, derivation id, module or job
    pub tree: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Cat {
    /// Hash, store path, derivation id, module or job
    pub tree: String,
    /// Path in the tree; without it, the tree itself must be a file
    pub path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// Hash, store path, derivation id, module or job
    pub old: String,
    /// Hash, store path, derivation id, module or job
    pub new: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Gc {
    /// Keep the last N results of each target
    #[arg(long, value_name = "N", default_value = "1")]
    pub keep_last: std::num::NonZeroUsize,
    /// Stop once the trees have no more than this: 500M, 20G
    #[arg(long, value_name = "SIZE", value_parser = name::size)]
    pub max_size: Option<u64>,
    /// Remove only what was not used for so long: 12h, 30d, 8w
    #[arg(long, value_name = "AGE", value_parser = name::age)]
    pub older_than: Option<std::time::Duration>,
    /// Only print what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Hashes, store paths, derivation ids, modules or jobs
    #[arg(required = true, value_name = "TREE")]
    pub trees: Vec<String>,
    /// Only these trees, not what they were built from
    #[arg(long)]
    pub only: bool,
    /// The archive [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Import {
    /// The archive [default: standard input]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Believe the archive what derivations were built to; its trees are checked anyway
    #[arg(long)]
    pub trust: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn main(session: &Session, command: &StoreCommand) -> Result<ExitCode, CliError> {
    match command {
        StoreCommand::Ls(args) => list::ls(session, args),
        StoreCommand::Info(args) => list::info(session, args),
        StoreCommand::Path(args) => list::path(session, args),
        StoreCommand::Repair(args) => mend::repair(session, args),
        _ if !sandbox::owns_ids() => {
            let status = reenter(session, command)?;
            Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
        }
        StoreCommand::Tree(args) => look::tree(session, args),
        StoreCommand::Cat(args) => look::cat(session, args),
        StoreCommand::Diff(args) => look::diff(session, args),
        StoreCommand::Du(args) => list::du(session, args),
        StoreCommand::Gc(args) => keep::gc(session, args),
        StoreCommand::Verify(args) => mend::verify(session, args),
        StoreCommand::Export(args) => transfer::export(session, args),
        StoreCommand::Import(args) => transfer::import(session, args),
        StoreCommand::Optimise(args) => keep::optimise(session, args),
    }
}

/// The same command with the ids that sandboxes see. Names of trees are looked up before: projects are read as who
/// calls.
fn reenter(session: &Session, command: &StoreCommand) -> Result<i32, CliError> {
    let mut argv: Vec<OsString> = Vec::new();
    let flag = |argv: &mut Vec<OsString>, name: &str, set: bool| argv.extend(set.then(|| name.into()));
    let names: &[&String] = match command {
        StoreCommand::Tree(it) => &[&it.tree],
        StoreCommand::Cat(it) => &[&it.tree],
        StoreCommand::Diff(it) => &[&it.old, &it.new],
        StoreCommand::Export(it) => &it.trees.iter().collect::<Vec<_>>(),
        _ => &[],
    };
    let hashes = name::find_all(session, names)?;
    match command {
        StoreCommand::Tree(it) => {
            argv.push("tree".into());
            flag(&mut argv, "--json", it.json);
        }
        StoreCommand::Cat(_) => argv.push("cat".into()),
        StoreCommand::Diff(it) => {
            argv.push("diff".into());
            flag(&mut argv, "--json", it.json);
        }
        StoreCommand::Export(it) => {
            argv.push("export".into());
            flag(&mut argv, "--only", it.only);
            if let Some(file) = &it.output {
                argv.extend(["--output".into(), absolute(file)?.into()]);
            }
        }
        StoreCommand::Du(it) | StoreCommand::Verify(it) | StoreCommand::Optimise(it) => {
            argv.push(match command {
                StoreCommand::Du(_) => "du".into(),
                StoreCommand::Verify(_) => "verify".into(),
                _ => "optimise".into(),
            });
            flag(&mut argv, "--json", it.json);
        }
        StoreCommand::Gc(it) => {
            argv.extend(["gc".into(), "--keep-last".into(), it.keep_last.to_string().into()]);
            if let Some(size) = it.max_size {
                argv.extend(["--max-size".into(), size.to_string().into()]);
            }
            if let Some(age) = it.older_than {
                argv.extend(["--older-than".into(), format!("{}s", age.as_secs()).into()]);
            }
            flag(&mut argv, "--dry-run", it.dry_run || session.global.no_act);
            flag(&mut argv, "--json", it.json);
        }
        StoreCommand::Import(it) => {
            argv.push("import".into());
            flag(&mut argv, "--trust", it.trust);
            flag(&mut argv, "--json", it.json);
            if let Some(file) = &it.file {
                argv.extend(["--".into(), absolute(file)?.into()]);
            }
        }
        StoreCommand::Ls(_) | StoreCommand::Info(_) | StoreCommand::Path(_) | StoreCommand::Repair(_) => {}
    }
    if !hashes.is_empty() {
        argv.push("--".into());
        argv.extend(hashes.iter().map(|it| it.to_string().into()));
    }
    if let StoreCommand::Cat(it) = command {
        argv.extend(it.path.iter().map(|path| path.clone().into_os_string()));
    }
    run_again(session, argv)
}

/// Runs `raptor store` with these arguments, on the same store and standard streams.
fn run_again(session: &Session, args: Vec<OsString>) -> Result<i32, CliError> {
    let (root, lower) = session.store_dirs()?;
    let mut argv: Vec<OsString> = Vec::new();
    argv.extend((0..session.global.verbose).map(|_| OsString::from("-v")));
    argv.extend((0..session.global.quiet).map(|_| OsString::from("-q")));
    argv.extend(["--store".into(), absolute(&root)?.into()]);
    for dir in lower {
        argv.extend(["--store-lower".into(), absolute(&dir)?.into()]);
    }
    argv.push("store".into());
    argv.extend(args);
    sandbox::check_host()?;
    Ok(sandbox::reenter(&Launcher::current(), argv, &session.cancel)?)
}

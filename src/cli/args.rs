//! Arguments of all commands.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use raptor_lang::program::{Parameter, Parameters, parse_parameter};

use super::init::Init;
use super::store::{StoreCommand, name};
use super::vm::Vm;

/// Builds reproducible machine images from .rapt files.
#[derive(Debug, Parser)]
#[command(
    name = "raptor",
    bin_name = "raptor",
    version,
    propagate_version = true,
    disable_help_subcommand = false
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Directory of the store [default: $RAPTOR_STORE, /var/lib/raptor for root, else ~/.local/share/raptor]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub store: Option<PathBuf>,
    /// Read from this store too, without changing it; may be repeated [default: $RAPTOR_STORE_LOWER]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub store_lower: Vec<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long, global = true)]
    pub no_act: bool,
    /// Say more; twice for every detail
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say less; twice for errors only
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
    /// Link a package: `$NAME.module` is a module below PATH
    #[arg(short = 'L', long, global = true, num_args = 2, value_names = ["NAME", "PATH"])]
    pub link: Vec<String>,
    /// Fail instead of changing Raptor.lock
    #[arg(long, global = true)]
    pub locked: bool,
    /// Do not use the network
    #[arg(long, global = true)]
    pub offline: bool,
    /// The same as --locked --offline
    #[arg(long, global = true)]
    pub frozen: bool,
    /// Derivations to build at a time [default: number of processors]
    #[arg(short, long, global = true, value_name = "N")]
    pub jobs: Option<std::num::NonZeroUsize>,
    /// Do all steps of a layer again, also those that have not changed
    #[arg(long, global = true)]
    pub no_checkpoints: bool,
    /// After a failure, build what does not depend on it
    #[arg(short, long, global = true)]
    pub keep_going: bool,
    /// Keep the state in which a step fails, for `raptor shell`
    #[arg(long, global = true)]
    pub keep_failed: bool,
    /// End a sandbox that takes more memory: 500M, 8G [default: 7/8 of the machine's]
    #[arg(long, global = true, value_name = "SIZE", value_parser = name::size)]
    pub memory: Option<u64>,
    /// End a sandbox that writes more to the disk of the store [default: all but the last GiB]
    #[arg(long, global = true, value_name = "SIZE", value_parser = name::size)]
    pub disk: Option<u64>,
    /// End a step that takes longer: 90s, 30m, 2h [default: no limit]
    #[arg(long, global = true, value_name = "TIME", value_parser = name::age)]
    pub timeout: Option<std::time::Duration>,
    /// How problems are told on stderr
    #[arg(long, global = true, value_name = "FORMAT", default_value = "human")]
    pub message_format: MessageFormat,
}

/// How problems are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MessageFormat {
    /// With the lines they are about
    Human,
    /// One line for each
    Short,
    /// One JSON object on a line for everything that is said
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build the layers of targets
    #[command(visible_alias = "b")]
    Build(Build),
    /// Check targets, or everything Raptor.toml names, for errors
    #[command(visible_alias = "c")]
    Check(Check),
    /// Print a shell completion script
    Completion(Completion),
    /// Print the statements of targets, with templates and INCLUDEs expanded
    #[command(visible_alias = "d")]
    Dump(Dump),
    /// Print the derivation of a target
    Eval(Eval),
    /// Explain the code of an error or warning, or list all codes
    Explain(Explain),
    /// Lay out .rapt and .rinc files
    Fmt(Fmt),
    /// Create or complete Raptor.lock for targets, or for everything Raptor.toml names
    ///
    /// Pins bases and files that Raptor.lock lacks, and builds the layers with RUN steps that the store does not have:
    /// nothing but running them can tell what they ask of the network. Without TARGETs, entries that nothing uses any
    /// more are removed. What is pinned already stays as it is; `raptor update` moves it forward.
    Lock(Lock),
    /// Write a small project to begin with
    Init(Init),
    /// Print the log of a target's last build, or list all logs
    Log(Log),
    /// Run jobs of Raptor.toml, and build what they need
    Make(Make),
    /// Print the statements of one file after its templates, without opening other files
    Parse(Parse),
    /// Build a target or derivation and print its store path
    Realize(Realize),
    /// Run a container of a target
    ///
    /// Builds the target, and runs its ENTRYPOINT (else `/bin/sh -c`) with the arguments given (else its CMD) on the
    /// files and the network of the host. `raptor run TARGET sh` is a shell. Whatever it changes in its root is
    /// thrown away, unless there is a state directory. The exit status is that of the program, or 128 and the number
    /// of the signal that ended it. Signals to raptor are passed on to the program.
    #[command(visible_alias = "r")]
    Run(Run),
    /// Look at the state in which a step failed
    Shell(Shell),
    /// Print what targets are built on
    #[command(visible_alias = "s")]
    Show(Targets),
    /// Look into the store, and look after it
    #[command(subcommand)]
    Store(StoreCommand),
    /// Move inputs of Raptor.lock forward, and print what changed
    ///
    /// Bases are pinned anew, and the requests of the RUN steps of the layers on them are recorded anew, which builds
    /// these layers. Files of FETCH and packages are fetched anew. Of a layer, its own requests are recorded anew. What fails stays
    /// in Raptor.lock as it was.
    Update(Update),
    /// Start a machine from an image
    ///
    /// The machine is QEMU's, which need not be installed: raptor has it in a container. Its serial console is raptor's
    /// input and output; on a terminal, Ctrl-A X ends the machine. It cannot change the image, unless --write says so.
    /// It reaches the network of the host, and with --ssh-port and --forward, the host reaches it.
    ///
    /// --wait-for and --send are for scripts: with --timeout, the command fails if what is waited for never comes.
    Vm(Box<Vm>),
}

impl Command {
    /// What is wanted of a command that ends with a report.
    pub fn timings(&self) -> Option<&Timings> {
        match self {
            Command::Build(args) => Some(&args.timings),
            Command::Make(args) => Some(&args.timings),
            Command::Realize(args) => Some(&args.timings),
            _ => None,
        }
    }
}

/// What is told of a build beside its results.
#[derive(Clone, Debug, Default, Args)]
pub struct Timings {
    /// Write a page about what took how long, for a browser; also if the build fails
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub timings: Option<PathBuf>,
}

/// Parameters of the targets.
#[derive(Clone, Debug, Default, Args)]
pub struct With {
    /// Set a variable of the targets' templates: true, false, digits or a text
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_parameter)]
    pub with: Vec<(String, Parameter)>,
}

impl With {
    /// By name; of two values for one name the last counts.
    pub fn parameters(&self) -> Parameters {
        self.with.iter().cloned().collect()
    }
}

#[derive(Debug, Args)]
pub struct Targets {
    /// Modules
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub timings: Timings,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Modules; without any, what Raptor.toml names
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Print the problems as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct Completion {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct Dump {
    /// Modules
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct Eval {
    /// A module, or a job of Raptor.toml
    pub target: String,
    /// Print the derivations it needs, too
    #[arg(long)]
    pub closure: bool,
    /// Print on one line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The code, such as E0301
    pub code: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Fmt {
    /// Files and directories, or `-` for standard input to output; without any, the working directory
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Change nothing; print the files that would change, and fail if there are any
    #[arg(long)]
    pub check: bool,
    /// Change nothing; print the differences
    #[arg(long)]
    pub diff: bool,
}

#[derive(Debug, Args)]
pub struct Lock {
    /// Modules, jobs, and groups as %GROUP; without any, what Raptor.toml names
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Change nothing; print what is missing or superfluous, and fail if anything is
    #[arg(long)]
    pub check: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct Log {
    /// A module, a job of Raptor.toml, a derivation id or at least its first 8 digits, or a store path; without it,
    /// list the logs
    pub target: Option<String>,
    /// Print the log of a build that runs as it grows
    #[arg(short, long, requires = "target", conflicts_with = "json")]
    pub follow: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct Make {
    /// The file with the jobs; its directory is the base of all modules
    #[arg(short, long, default_value = "Raptor.toml", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Accepted for compatibility: output is always plain when it is not a terminal
    #[arg(short, long, hide = true)]
    pub batch: bool,
    /// Jobs, and groups as %GROUP; without any, all jobs
    #[arg(value_name = "JOB")]
    pub targets: Vec<String>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub timings: Timings,
}

#[derive(Debug, Args)]
pub struct Parse {
    /// The file, or `-` for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Print the statements as JSON
    #[arg(long, conflicts_with = "tree")]
    pub json: bool,
    /// Print the syntax tree of the file as written
    #[arg(long)]
    pub tree: bool,
}

#[derive(Debug, Args)]
pub struct Realize {
    /// Modules, jobs of Raptor.toml or derivation ids
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Print results as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub with: With,
    #[command(flatten)]
    pub timings: Timings,
}

/// What becomes of a state that was made on other layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stale {
    /// Nothing: it is an error
    Fail,
    /// It is laid over the layers as they are now
    Keep,
    /// It is thrown away
    Drop,
}

/// The network of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ContainerNetwork {
    /// Loopback, nobody listens
    None,
    /// The host's
    Host,
}

/// A variable of `-e`.
fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err("a variable needs a name".to_owned()),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    }
}

#[derive(Debug, Args)]
pub struct Run {
    /// The module
    #[arg(value_hint = ValueHint::FilePath)]
    pub target: String,
    /// Give a mount its source
    #[arg(short = 'M', long, num_args = 2, value_names = ["NAME", "SOURCE"])]
    pub mount: Vec<String>,
    /// Source of the mount `cache`
    #[arg(short = 'C', long, value_name = "SOURCE")]
    pub cache: Vec<String>,
    /// Source of the mount `input`
    #[arg(short = 'I', long, value_name = "SOURCE")]
    pub input: Vec<String>,
    /// Source of the mount `output`
    #[arg(short = 'O', long, value_name = "SOURCE")]
    pub output: Option<String>,
    /// Set a variable; without a value it is empty
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_variable)]
    pub env: Vec<(String, String)>,
    /// Keep changes of the root in this directory, from run to run
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
    /// What to do with a state that was made on other layers
    #[arg(long, value_name = "WHAT", default_value = "fail", requires = "state_dir")]
    pub stale_state: Stale,
    /// Network of the container
    #[arg(long, value_name = "NETWORK", default_value = "host")]
    pub network: ContainerNetwork,
    /// With -n: print what would be run as JSON
    #[arg(long)]
    pub json: bool,
    /// Instead of the target's CMD; after `--` if one begins with a hyphen
    #[arg(value_name = "ARG")]
    pub args: Vec<String>,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct Shell {
    /// The derivation that failed, by its id or the first digits of it, or a module or job that needs it
    pub target: String,
    /// Run this instead of an interactive shell
    #[arg(last = true, value_name = "ARG")]
    pub argv: Vec<String>,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct Update {
    /// Bases (debian://REF, docker://REF or REF), URLs of FETCH, packages, and layers, as they stand in Raptor.lock;
    /// without any, all
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Print the changes as JSON
    #[arg(long)]
    pub json: bool,
}

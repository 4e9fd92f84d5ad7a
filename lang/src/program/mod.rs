//! Programs: a module with its INCLUDEs expanded, its arguments evaluated and its templates rendered.

mod args;
mod copy;
mod fetch;
mod lints;
mod load;
pub mod near;
mod parameters;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::pattern::Excludes;
use crate::source::{FileId, Span};
use crate::stmt::{Digest, FileOpts, ImageFile, Mount, Spanned};

pub use crate::template::{LogLevel, LogMessage};
pub use load::{Loaded, ResolveError, load, parse_file_statements, resolve};
pub use parameters::{Parameter, ParameterError, Parameters, describe, is_variable, parse_parameter};

/// A module after name resolution: a file and the instance it is evaluated for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId {
    /// Path of the file as the world knows it: relative to the base, or below `$std`.
    pub path: PathBuf,
    /// Instance, for files whose stem ends in `@`.
    pub instance: Option<String>,
    /// Parameters of a target (`with` of Raptor.toml, `--with`): variables of its templates. Empty for what FROM,
    /// INCLUDE and `--each` name.
    pub with: Parameters,
}

/// What one `.rapt` file means.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Which module it is.
    pub module: ModuleId,
    /// Its file.
    pub file: FileId,
    /// Its base; `None` builds from nothing.
    pub from: Option<Spanned<Base>>,
    /// What builds the layer, in order, INCLUDEs expanded.
    pub actions: Vec<Action>,
    /// First top-level CMD.
    pub cmd: Option<Spanned<Vec<String>>>,
    /// First top-level ENTRYPOINT.
    pub entrypoint: Option<Spanned<Vec<String>>>,
    /// Top-level MOUNTs, in order.
    pub mounts: Vec<Spanned<ProgramMount>>,
}

/// A MOUNT with its `--each` builder resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramMount {
    /// The statement.
    pub mount: Mount,
    /// Resolved `--each`.
    pub each: Option<ModuleId>,
}

/// What a program builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// An image of a registry.
    Docker(String),
    /// A Debian bootstrap: suite and options.
    Debian(String),
    /// An image file; its path as the world knows it.
    Image(ImageFile),
    /// Another module.
    Module(ModuleId),
}

/// One effect on the layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// What happens.
    pub kind: ActionKind,
    /// The statement.
    pub span: Span,
    /// INCLUDE statements that led to it, outermost first.
    pub stack: Vec<Span>,
}

/// Effects, in the words of the language; paths in the image are as written.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionKind {
    /// Run a program.
    Run(Vec<String>),
    /// Set variables for the rest of the layer.
    Env(Vec<(String, String)>),
    /// Change the directory for the rest of the layer.
    Workdir(String),
    /// Write a text: WRITE, and RENDER after rendering.
    Write {
        /// Whole content of the file.
        text: String,
        /// Where.
        path: String,
        /// Mode and owner.
        opts: FileOpts,
    },
    /// Make a directory.
    Mkdir {
        /// Where.
        path: String,
        /// `-p`
        parents: bool,
        /// Mode and owner.
        opts: FileOpts,
    },
    /// Copy project files.
    Copy {
        /// Paths as the world knows them, patterns expanded; each exists.
        sources: Vec<Spanned<PathBuf>>,
        /// Where.
        dest: String,
        /// What is left out of them.
        exclude: Excludes,
        /// Mode and owner.
        opts: FileOpts,
    },
    /// Download a file.
    Fetch {
        /// `http://` or `https://`.
        url: Spanned<String>,
        /// Other places to get it from, in order.
        mirrors: Vec<String>,
        /// Where it goes.
        dest: String,
        /// What it must be.
        digest: Option<Digest>,
        /// Mode and owner.
        opts: FileOpts,
    },
    /// Exempt paths of the layer, and what is below them, from the rules of [`crate::noise`].
    Keep(Vec<Spanned<String>>),
}

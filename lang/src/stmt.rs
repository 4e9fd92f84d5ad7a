//! Typed statements: what one line of a rendered file says, before files are opened or names resolved.

use serde::{Deserialize, Serialize};

use crate::def::ModuleName;
use crate::source::Span;

/// One statement with its place in the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// What it says.
    pub inst: Inst,
    /// Where it stands, without trailing whitespace, comment or newline.
    pub span: Span,
}

/// A value together with the place it was written at.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// The instructions of language.md §2.
#[derive(Clone, Debug, PartialEq)]
pub enum Inst {
    /// `FROM source`
    From(Spanned<FromSource>),
    /// `RUN argv…`
    Run(Vec<Spanned<String>>),
    /// `CMD argv…`
    Cmd(Vec<Spanned<String>>),
    /// `ENTRYPOINT argv…`
    Entrypoint(Vec<Spanned<String>>),
    /// `ENV KEY[=value]…`; a key alone has itself as value.
    Env(Vec<(Spanned<String>, Spanned<String>)>),
    /// `WORKDIR path`
    Workdir(Spanned<String>),
    /// `WRITE [fileopts] value path`
    Write {
        /// Text of the file.
        value: Spanned<String>,
        /// Where it goes.
        path: Spanned<String>,
        /// Mode and owner.
        opts: FileOpts,
    },
    /// `MKDIR [fileopts] [-p] path`
    Mkdir {
        /// The directory.
        path: Spanned<String>,
        /// `-p`: parents too, and no error if it exists.
        parents: bool,
        /// Mode and owner.
        opts: FileOpts,
    },
    /// `COPY [fileopts] [--exclude pattern]… source… dest`
    Copy {
        /// One or more paths or patterns relative to the file's directory.
        sources: Vec<Spanned<String>>,
        /// Where they go.
        dest: Spanned<String>,
        /// Patterns of what is left out.
        exclude: Vec<Spanned<String>>,
        /// Mode and owner.
        opts: FileOpts,
    },
    /// `RENDER [fileopts] source dest args…`
    Render {
        /// Template file relative to the file's directory.
        source: Spanned<String>,
        /// Where the text goes.
        dest: Spanned<String>,
        /// Mode and owner.
        opts: FileOpts,
        /// Context of the template.
        args: Vec<Arg>,
    },
    /// `FETCH [fileopts] [--sha256 hex | --blake3 hex] url dest`
    Fetch {
        /// `http://`, `https://`, or `@name` for a file of Raptor.toml.
        url: Spanned<String>,
        /// Where the file goes.
        dest: Spanned<String>,
        /// What it must be; without one the lock pins it.
        digest: Option<Spanned<Digest>>,
        /// Mode and owner.
        opts: FileOpts,
    },
    /// `KEEP path…`
    Keep(Vec<Spanned<String>>),
    /// `INCLUDE module args…`
    Include {
        /// The module, a `.rinc` file.
        module: Spanned<ModuleName>,
        /// Context of the module.
        args: Vec<Arg>,
    },
    /// `MOUNT [options] name path`
    Mount(Mount),
}

/// What a `FROM` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromSource {
    /// `docker://REFERENCE`, the text after the slashes.
    Docker(String),
    /// `debian://SUITE[?PARAMETER&…]`, the text after the slashes.
    Debian(String),
    /// An image in a file or directory of the project.
    Image(ImageFile),
    /// Another `.rapt` file.
    Module(ModuleName),
}

/// `oci:PATH[:REFERENCE]` and its kin: an image that needs no registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageFile {
    /// How it is stored.
    pub format: ImageFormat,
    /// The file or directory, relative to the file's directory.
    pub path: String,
    /// Which image of several: the tag of an OCI layout, the name and tag in a docker archive.
    pub reference: Option<String>,
}

/// How an image file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// A directory with the OCI image layout.
    Oci,
    /// The same in a tar file.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
}

impl ImageFormat {
    /// All of them.
    pub const ALL: &[ImageFormat] = &[ImageFormat::Oci, ImageFormat::OciArchive, ImageFormat::DockerArchive];

    /// Name in front of the colon.
    pub fn scheme(self) -> &'static str {
        match self {
            ImageFormat::Oci => "oci",
            ImageFormat::OciArchive => "oci-archive",
            ImageFormat::DockerArchive => "docker-archive",
        }
    }
}

impl std::fmt::Display for ImageFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.format.scheme(), self.path)?;
        self.reference.iter().try_for_each(|reference| write!(f, ":{reference}"))
    }
}

/// Digest of a file in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    /// `--sha256`, 64 digits.
    Sha256(String),
    /// `--blake3`, 64 digits.
    Blake3(String),
}

/// `--chmod` and `--chown` of COPY, WRITE, MKDIR and RENDER.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOpts {
    /// Permission bits, at most `0o7777`.
    pub chmod: Option<u32>,
    /// Owner and group, by name or number.
    pub chown: Option<Chown>,
}

/// `[user][:[group]]`; `user:` means the group of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chown {
    /// User name or number.
    pub user: Option<String>,
    /// Group name or number.
    pub group: Option<String>,
}

/// `MOUNT` with its options.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// simple, file, layers or overlay.
    pub kind: MountKind,
    /// `--each MODULE`: every layer passes through this builder first (only with `--layers`).
    pub each: Option<Spanned<ModuleName>>,
    /// The name that `-M`, `-C`, `-I`, `-O` and Raptor.toml use.
    pub name: Spanned<String>,
    /// Where the container sees it.
    pub path: Spanned<String>,
    /// `--readonly`
    pub readonly: bool,
    /// `--optional`
    pub optional: bool,
}

/// Kinds of mounts, language.md §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// One directory.
    Simple,
    /// One file.
    File,
    /// Layers of modules, one directory each.
    Layers,
    /// One module, merged.
    Overlay,
}

/// One argument of INCLUDE or RENDER; the shorthand `name` is `name=name`.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    /// Name in the callee's context.
    pub name: Spanned<String>,
    /// Its value.
    pub value: Spanned<Expr>,
}

/// Right side of an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A literal.
    Literal(Literal),
    /// `a.b.c`, looked up in the final exports of the file.
    Lookup(Vec<Spanned<String>>),
}

/// Literals of argument expressions; lists and maps hold literals only.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Unsigned digits, at most `i64::MAX`.
    Int(i64),
    /// `true` or `false`.
    Bool(bool),
    /// A string.
    Str(String),
    /// `[a, b]`
    List(Vec<Literal>),
    /// `{k: v}`; of duplicate keys the last wins.
    Map(Vec<(Literal, Literal)>),
}

//! Module names, `[$[pkg].]seg(.seg)*[@instance]`: one parser for source, command line and Raptor.toml.

use std::fmt;

/// Where the segments start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// `a.b`: the directory of the current file.
    Relative,
    /// `$.a.b`: the base directory.
    Base,
    /// `$pkg.a.b`: a linked package.
    Package(String),
}

/// A parsed module name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName {
    /// Where the segments start.
    pub root: Root,
    /// At least one; the last is the file stem.
    pub segments: Vec<String>,
    /// `@instance`.
    pub instance: Option<String>,
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Relative => {}
            Root::Base => f.write_str("$.")?,
            Root::Package(name) => write!(f, "${name}.")?,
        }
        f.write_str(&self.segments.join("."))?;
        match &self.instance {
            Some(instance) => write!(f, "@{instance}"),
            None => Ok(()),
        }
    }
}

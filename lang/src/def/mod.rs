//! Names: what a module is called and which file it means.

mod name;

pub use name::{Extension, ModuleName, NameError, Root, UnknownPackage};

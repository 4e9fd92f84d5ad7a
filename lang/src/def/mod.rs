//! Names: what a module is called and which file it means, and what a base is called.

mod debian;
mod name;

pub use debian::{DebianRequest, DebianRequestError, DebianVariant};
pub use name::{Extension, ModuleName, NameError, Root, UnknownPackage};

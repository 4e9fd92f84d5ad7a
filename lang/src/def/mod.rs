//! Names: what a module is called and which file it means, and what a base is called.

mod debian;
mod name;

pub use debian::{DebianRequest, DebianRequestError, DebianVariant, is_debian_component, is_debian_suite};
pub use name::{Extension, ModuleName, NameError, Root, UnknownPackage};

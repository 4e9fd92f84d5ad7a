//! Names: what a module is called and which file it means, and what a base is called.

mod debian;
mod docker;
mod name;
mod url;

pub use debian::{DebianRequest, DebianRequestError, DebianVariant, is_debian_component, is_debian_suite};
pub use docker::{DockerReference, DockerReferenceError};
pub use name::{Extension, ModuleName, NameError, Root, UnknownPackage, is_package_name, is_segment};
pub use url::{WrongUrl, check_url};
